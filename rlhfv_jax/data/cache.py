"""Cache: rows that were encoded once, as arrays on disk that are mapped.

The name of an entry is made of what its rows depend on: the source (where its
files are, how large and how old, and how they are read), the tokenizer, the
template and the options. Buckets are none of it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from rlhfv_jax.data import chat, plan, whole
from rlhfv_jax.data.encode import encode_all, within
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.rows import Rejected, Rows
from rlhfv_jax.data.storage import shards

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase

ARRAYS = ('tokens', 'roles', 'sizes', 'heads', 'starts', 'pictures')
LAYOUT = 2  # of an entry, and of how examples are encoded


def encoded(
  folder: str | Path,
  examples: Sequence[Example],
  tokenizer: PreTrainedTokenizerBase,
  template: chat.Template,
  *,
  buckets: Sequence[plan.Bucket] | None = None,
  progress: Callable[[int, int], None] | None = None,
  processes: int = 1,
  **options: Any,
) -> Rows:
  """`encode_all`, which is done when nobody has done it yet.

  Of examples in no file nobody can say whether they are still the same.
  """
  fresh = functools.partial(
    encode_all, examples, tokenizer, template, progress=progress,
    processes=processes, **options,
  )  # fmt: skip
  if not hasattr(examples, 'files'):
    return fresh(buckets=buckets)
  entry = Path(folder) / name(examples, tokenizer, template, **options)
  rows = load(entry) if entry.exists() else None
  if rows is None or any(_mended(examples, row) for row in rows.rejected):
    save(entry, fresh())
    rows = load(entry)
  return rows if buckets is None else within(rows, buckets)


def name(
  examples: Sequence[Example],  # with `files`, as lazy.Source has them
  tokenizer: PreTrainedTokenizerBase,
  template: chat.Template,
  **options: Any,
) -> str:
  """What an entry is called."""
  known = [tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map]
  told = (LAYOUT, examples, known, template, sorted(options.items()))
  ages = [
    (str(file), file.stat().st_size, file.stat().st_mtime_ns)
    for file in examples.files()
  ]
  key = hashlib.blake2b(cloudpickle.dumps(told), digest_size=12)
  key.update(json.dumps(ages).encode())
  return key.hexdigest()


def save(entry: Path, rows: Rows) -> None:
  """All or nothing; of several writers of one entry one is enough."""
  tmp = entry.with_name(f'.{entry.name}.{os.getpid()}.tmp')
  try:
    tmp.mkdir(parents=True)
    for array in ARRAYS:
      np.save(tmp / array, getattr(rows, array))
    told = {'ids': rows.ids, 'rejected': rows.rejected}
    (tmp / 'rows.json').write_text(json.dumps(told), 'utf-8')
    shards.sync(tmp)
    shards.replace(tmp, entry)
  finally:
    shards.forget(tmp)


def load(entry: Path) -> Rows:
  try:
    told = json.loads((entry / 'rows.json').read_text('utf-8'))
    arrays = {
      array: np.load(entry / f'{array}.npy', mmap_mode='r') for array in ARRAYS
    }
  except (OSError, ValueError) as error:
    raise ValueError(
      f'{entry}: these encoded rows do not read ({error}): delete the folder, '
      'and the next run encodes them again'
    ) from error
  return Rows(
    **arrays,
    ids=tuple(told['ids']),
    rejected=tuple(Rejected(*row) for row in told['rejected']),
  )


def _mended(examples: Sequence[Example], row: Rejected) -> bool:
  """Whether a picture that was missing or broken is there now."""
  if 'picture' not in row.reason:
    return False
  try:
    whole.check(examples[row.index].image or b'')
  except RowError:
    return False
  return True
