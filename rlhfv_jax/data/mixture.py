"""Mixture: several sources as one, each row once or in given shares.

'A + B' is A and then B. '3*A + 1*B' has three rows of A for each of B: the one
that lasts longest is there once, and the others again and again, as Muffin's
data sets are mixed.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlhfv_jax.data.example import Example

_SHARE = re.compile(r'(?:(\d+)\*)?(.+)')


class Mixture(Sequence):
  """Rows of the first source, then of the second; a number may go round."""

  def __init__(self, sources: Sequence[Sequence[Example]], counts: Sequence):
    self.sources, self.counts = tuple(sources), tuple(map(int, counts))
    self._ends = np.cumsum(self.counts)

  def __repr__(self) -> str:
    told = zip(self.counts, self.sources, strict=True)
    return f'Mixture({", ".join(f"{n} of {source!r}" for n, source in told)})'

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < len(self):
      raise IndexError(f'row {index} of {len(self)}')
    source, row = self.place(index)
    return source[row]

  def place(self, index: int) -> tuple[Sequence[Example], int]:
    """The source of a row, and its number there."""
    which = int(np.searchsorted(self._ends, index, side='right'))
    begin = int(self._ends[which]) - self.counts[which]
    return self.sources[which], (index - begin) % len(self.sources[which])

  def where(self, index: int) -> str:
    source, row = self.place(index)
    return source.where(row)

  def files(self) -> list[Path]:
    return [file for source in self.sources for file in source.files()]


def parse(spec: str) -> list[tuple[int | None, str]]:
  """'2*A + B' -> [(2, 'A'), (None, 'B')]."""
  parts = [_SHARE.fullmatch(part.strip()) for part in spec.split(' + ')]
  if not all(parts) or any(part[1] and not int(part[1]) for part in parts):
    raise ValueError(
      f'{spec!r}: say KIND:PATH + KIND:PATH, or 3*KIND:PATH + ...'
    )
  return [(part[1] and int(part[1]), part[2]) for part in parts]


def mix(
  sources: Sequence[Sequence[Example]], shares: Sequence[int | None]
) -> Mixture:
  """With a share anywhere, whoever has none has one."""
  lengths = np.array([len(source) for source in sources])
  if not any(shares):
    return Mixture(sources, lengths)
  weights = np.array([share or 1 for share in shares])
  # Whole rounds of the source that lasts longest.
  rounds = max(1, int((lengths // weights).max()))
  return Mixture(sources, rounds * weights)
