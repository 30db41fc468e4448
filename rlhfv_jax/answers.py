"""Questions in, answers out: the generator over a list, kept as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from rlhfv_jax import files
from rlhfv_jax.data import chat, images
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example, assemble, lengths
from rlhfv_jax.feed import to_batch
from rlhfv_jax.generate import Decoding, generate


def answer(
  model: Any,
  params: Any,
  questions: Sequence[Example],
  *,
  tokenizer: Any,
  template: chat.Template,
  image_size: int,
  image_policy: str,
  decoding: Decoding,
  batch: int,
  key: jax.Array,
  path: Path,
  name: str,
  mesh: Mesh,
) -> list[dict[str, str]]:
  """One {'id', 'question', 'answer'} a question, in `path` and returned.

  Batches have one shape, and each its own key: a run that was stopped goes on
  behind the last whole batch and ends in the same answers.
  """
  sees = model.config.image_tokens > 0
  rows = encode_all(
    questions, tokenizer, template, image_tokens=model.config.image_tokens
  )
  if rows.rejected:
    first = rows.rejected[0]
    raise ValueError(
      f'{name}: {len(rows.rejected)} questions cannot be asked, the first is '
      f'{first.id}: {first.reason} {first.detail}'
    )
  trunk = -(-int(lengths(rows)[:, 0].max()) // 8) * 8
  pictures = images.Pictures(questions, image_size, image_policy)
  ids = [q.id for q in questions]
  done = files.read_lines(path)
  done = done[: len(done) // batch * batch]
  if [row['id'] for row in done] != ids[: len(done)]:
    raise ValueError(f'{path}: answers to other questions: delete it to redo')
  files.write_lines(path, done)
  bar = tqdm(total=len(ids), initial=len(done), desc=name, unit='answer',
             dynamic_ncols=True, disable=len(done) == len(ids))  # fmt: skip
  for start in range(len(done), len(ids), batch):
    index = np.arange(start, start + batch)
    index[index >= len(ids)] = -1
    bucket = (trunk, 0, 1)
    arrays = assemble(rows, index, bucket)
    if sees:
      arrays['images'] = np.stack([pictures[max(i, 0)] for i in index])
    tokens, _ = generate(
      model, params, to_batch((bucket, arrays), mesh), decoding,
      jax.random.fold_in(key, start),
    )  # fmt: skip
    fresh = [
      {
        'id': ids[i],
        'question': questions[i].turns[-1][1],
        'answer': chat.decode(tokenizer, ids_of),
      }
      for i, ids_of in zip(index, np.asarray(tokens), strict=True)
      if i >= 0
    ]
    files.append_lines(path, fresh)
    done += fresh
    bar.update(len(fresh))
  bar.close()
  return done
