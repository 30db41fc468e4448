"""What a tower that stays saw of each picture, read from files in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

KEY = 'seen'  # of a batch, in place of its images


class Seen:
  """Features [P,D] of each row, by the picture it names. Without: zeros.

  Stands where `images.Pictures` does. The files are mapped into memory, so
  worker processes share what is read of them.
  """

  key, dtype = KEY, ml_dtypes.bfloat16

  def __init__(
    self, files: Sequence[Path], places: np.ndarray, shape: tuple[int, int]
  ):
    """places i32[N,2] is the file and the row of each of the N rows."""
    self.files, self.places, self.shape = list(files), places, shape
    self._open: dict[int, np.ndarray] = {}

  def __reduce__(self):
    return Seen, (self.files, self.places, self.shape)

  def __getitem__(self, index: int) -> np.ndarray:
    file, row = self.places[index]
    if file not in self._open:
      self._open[file] = np.load(self.files[file], mmap_mode='r')
    return self._open[file][row].view(self.dtype)
