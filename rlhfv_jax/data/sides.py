"""Sides: which rows of a source are trained on, and which are only looked at.

Their pictures decide it, whose digests the rows have: nobody reads them again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlhfv_jax.data.example import Example
from rlhfv_jax.data.rows import NO_PICTURE, NOT_READ, Rows


class Part(Sequence):
  """Some rows of a source, read when they are asked for."""

  def __init__(self, source: Sequence[Example], rows: np.ndarray):
    self.source, self.rows = source, rows

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: int) -> Example:
    return self.source[int(self.rows[index])]

  def where(self, index: int) -> str:
    return self.source.where(int(self.rows[index]))


def held_out(rows: Rows, share: float) -> np.ndarray:
  """bool[N]: the rows that are only looked at.

  A picture is on one side, whatever is asked about it and wherever it stands.
  At least one is looked at, of however few.
  """
  drawn = _numbers(rows.pictures)
  for mark in (NO_PICTURE, NOT_READ):
    same = (rows.pictures == np.frombuffer(mark, np.uint8)).all(1)
    for row in np.flatnonzero(same).tolist():
      name = rows.ids[row] if mark == NO_PICTURE else str(row)
      digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
      drawn[row] = _numbers(np.frombuffer(digest, np.uint8)[None])[0]
  return (drawn < share) | (drawn <= drawn.min(initial=1.0))


def _numbers(digests: np.ndarray) -> np.ndarray:
  """u8[N,8 or more] -> f64[N] in [0, 1): a digest is as good as a draw."""
  return np.ascontiguousarray(digests[:, :8]).view('>u8')[:, 0] / 2**64


def some(rows: Rows, numbers: np.ndarray) -> Rows:
  """The rows of these numbers, numbered anew. No token is copied."""
  place = {number: i for i, number in enumerate(numbers.tolist())}
  return replace(
    rows,
    sizes=rows.sizes[numbers],
    heads=rows.heads[numbers],
    starts=rows.starts[numbers],
    pictures=rows.pictures[numbers],
    ids=tuple(rows.ids[number] for number in place),
    rejected=tuple(
      row._replace(index=place[row.index])
      for row in rows.rejected
      if row.index in place
    ),
  )
