"""Grouped: records of a JSON file that make one row, as questions of a picture.

With a second file the records bring the ones of the same number from there:
VQA keeps questions and answers apart.
"""

import mmap
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlhfv_jax.data.storage.records import Records


def column(records: Records, key: str) -> np.ndarray:
  """The value of a key in every record, as bytes, without parsing them.

  Bytes are i64 at once where all are numbers.
  """
  pattern = rb'"%s"\s*:\s*("[^"\\]*+(?:\\.[^"\\]*+)*+"|[^][{},\s]++)'
  with (
    open(records.path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    start, end = records.places[0, 0], records.places[-1, 1]
    found = re.compile(pattern % re.escape(key.encode()), re.DOTALL).findall(
      data, int(start), int(end)
    )
  if len(found) != len(records):
    raise ValueError(
      f'{records.path}: {len(found)} times {key!r} in {len(records)} records: '
      'each needs one'
    )
  values = np.array(found, 'S')
  try:
    return values.astype(np.int64)
  except ValueError:
    return np.char.strip(values, b'"')


class Groups(Sequence):
  """Rows, each a list of (record, its partner or None)."""

  def __init__(
    self,
    records: Records,
    members: Sequence[np.ndarray],
    *,
    partners: Records | None = None,
    matches: np.ndarray | None = None,
  ):
    self.records, self.partners, self.matches = records, partners, matches
    self._order = np.concatenate([np.zeros(0, np.int64), *members])
    self._ends = np.cumsum([0, *map(len, members)])

  def __repr__(self) -> str:
    return f'Groups({self.records!r}, {len(self)})'

  def __len__(self) -> int:
    return len(self._ends) - 1

  def __getitem__(self, index: int) -> list[tuple[dict, dict | None]]:
    return [(self.records[i], self._partner(i)) for i in self._members(index)]

  def where(self, index: int) -> str:
    return self.records.where(self._members(index)[0])

  def files(self) -> list[Path]:
    return [t.path for t in (self.records, self.partners) if t is not None]

  def _members(self, index: int) -> list[int]:
    start, end = self._ends[index : index + 2]
    return self._order[start:end].tolist()

  def _partner(self, i: int) -> dict | None:
    if self.partners is None:
      return None
    return self.partners[int(self.matches[i])]


def by(values: np.ndarray, kept: np.ndarray | None = None) -> list[np.ndarray]:
  """Places of equal values together, in the order of their first."""
  places = np.arange(len(values)) if kept is None else np.flatnonzero(kept)
  _, first, which = np.unique(
    values[places], return_index=True, return_inverse=True
  )
  order = np.argsort(which, kind='stable')
  cuts = np.flatnonzero(np.diff(which[order])) + 1
  groups = np.split(places[order], cuts)
  return [groups[g] for g in np.argsort(first)] if len(places) else []


def match(mine: np.ndarray, theirs: np.ndarray, what: str) -> np.ndarray:
  """For each of mine, where theirs has the same value."""
  order = np.argsort(theirs, kind='stable')
  at = np.searchsorted(theirs, mine, sorter=order)
  found = order[np.minimum(at, len(order) - 1)]
  lost = np.flatnonzero(theirs[found] != mine)
  if len(lost):
    raise ValueError(
      f'{what}: {len(lost)} of {len(mine)} have no partner, '
      f'{mine[lost[0]]} is the first: the two files are of different splits'
    )
  return found
