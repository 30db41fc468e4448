"""Encoding: all examples of a source become rows, the unusable are rejected."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rlhfv_jax.data import chat, parallel, plan, views, whole
from rlhfv_jax.data.encode_one import DIFFS as DIFFS
from rlhfv_jax.data.encode_one import Way, to_pieces, to_row
from rlhfv_jax.data.encode_one import encode as encode
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.rows import (
  NO_PICTURE,
  NOT_READ,
  Rejected,
  Row,
  Rows,
  join,
  lengths,
  pack,
  prompts,
)

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase

BLOCK = 256  # rows tokenised by one call, which costs half of as many calls


def encode_all(
  examples: Sequence[Example],
  tokenizer: PreTrainedTokenizerBase,
  template: chat.Template,
  *,
  image_tokens: int,
  buckets: Sequence[plan.Bucket] | None = None,
  limit: int | None = None,
  check_images: bool = True,
  suffix: Callable[[Example], str] | str = '',
  progress: Callable[[int, int], None] | None = None,
  processes: int = 1,
  **options,
) -> Rows:
  """All rows of a source, the unusable ones rejected with their reason.

  A row with a path longer than `limit`, which is what the model can take, is
  rejected; with buckets, one that fits none is too: nothing is truncated.
  Every picture is looked at once, so that a broken one is found now, not in the
  middle of a run; `check_images=False` puts that off. The rows are the same for
  any number of `processes`.
  """
  way = Way.of(tokenizer, template, image_tokens=image_tokens, **options)
  work = functools.partial(
    _block, examples, way, limit=limit, suffix=suffix,
    check_images=check_images and image_tokens > 0,
  )  # fmt: skip
  parts = []
  for start, part in parallel.over(work, len(examples), BLOCK, processes):
    parts.append(part)
    if progress:
      progress(start + len(part), len(examples))
  packed = join(parts)
  return packed if buckets is None else within(packed, buckets)


def _block(
  examples: Sequence[Example],
  way: Way,
  numbers: range,
  *,
  limit: int | None,
  suffix: Callable[[Example], str] | str,
  check_images: bool,
) -> Rows:
  """Rows of these numbers: all are read, then tokenised, then encoded."""
  read, ids, rejected, pictures = {}, [], [], []
  for index in numbers:
    ids.append(f'row {index}')
    pictures.append(NOT_READ)
    try:
      example = examples[index]
      ids[-1] = example.id
      name = views.digest(example.image)
      pictures[-1] = bytes.fromhex(name) if name else NO_PICTURE
      if check_images and example.image:
        whole.check(example.image)
      said = suffix(example) if callable(suffix) else suffix
      read[index] = example, to_pieces(example, way, suffix=said)
    except RowError as error:
      rejected.append(Rejected(index, ids[-1], error.reason, error.detail))
  texts = (t for _, paths in read.values() for p in paths for t in chat.cut(p))
  known = chat.chunks(texts, way.words)
  rows: list[Row | None] = []
  for index in numbers:
    row = None
    if index in read:
      example, pieces = read.pop(index)
      try:
        row = to_row(example, pieces, way, known)
        _check_length(row, limit)
      except RowError as error:
        row = None
        rejected.append(Rejected(index, example.id, error.reason, error.detail))
    rows.append(row)
  return pack(rows, ids, sorted(rejected), pictures)


def _check_length(row: Row, limit: int | None) -> None:
  longest = max(len(row.path(c)) for c in range(len(row.answers)))
  if limit is not None and longest > limit:
    raise RowError('too long', f'{longest} tokens, and the model takes {limit}')


def within(rows: Rows, buckets: Sequence[plan.Bucket]) -> Rows:
  """Rows without those that fit no bucket, which are rejected."""
  long = np.flatnonzero(
    (rows.sizes[:, 0] > 0)
    & ~np.any(
      [plan.fits(lengths(rows), b, prompts=prompts(rows)) for b in buckets], 0
    )
  )
  rejected = [
    Rejected(
      int(i),
      rows.ids[i],
      'too long',
      f'{rows.sizes[i, 0]} prompt and {rows.sizes[i, 1:].tolist()} answer '
      f'tokens fit none of {[tuple(b) for b in buckets]}',
    )
    for i in long
  ]
  sizes, heads = rows.sizes.copy(), rows.heads.copy()
  sizes[long] = heads[long] = 0
  return replace(
    rows, sizes=sizes, heads=heads, rejected=rows.rejected + tuple(rejected)
  )
