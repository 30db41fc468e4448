"""The exam of a picture: whether it decodes, its size, and how it looks."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from rlhfv_jax.data import images
from rlhfv_jax.data.example import RowError

_GRID, _SIDE = 16, 64
_TINY = 16
# Of a picture's 256 bits. Scaled and compressed again it keeps all but a few;
# another picture has half of them.
ALIKE_BITS = 20


class Look(NamedTuple):
  """What is kept of a picture."""

  size: tuple[int, int]
  fingerprint: bytes | None  # None: of one colour, or broken
  fault: tuple[str, str] | None


def look(encoded: bytes) -> Look:
  try:
    picture = images.decode(encoded)
  except RowError as error:
    return Look((0, 0), None, (error.reason, error.detail))
  fault = None
  if min(picture.size) < _TINY:
    fault = 'tiny picture', f'{picture.width} x {picture.height} pixels'
  return Look(picture.size, fingerprint(picture), fault)


def fingerprint(picture: Image.Image) -> bytes | None:
  """256 bits: which of the slow waves in a picture are above their median.

  Compression and scaling change the fast waves, which are not looked at.
  """
  side = (_SIDE, _SIDE)
  grey = picture.convert('L').resize(side, Image.Resampling.BOX)
  pixels = np.asarray(grey, np.float32)
  if pixels.std() < 2:
    return None
  waves = _COSINES @ pixels @ _COSINES.T
  return np.packbits(waves > np.median(waves)).tobytes()


def _cosines() -> np.ndarray:
  """The slow part of a cosine transform, [_GRID, _SIDE]."""
  wave, place = np.arange(_GRID)[:, None], np.arange(_SIDE)[None]
  return np.cos(np.pi * (place + 0.5) * wave / _SIDE).astype(np.float32)


_COSINES = _cosines()


def thumbnail(encoded: bytes, side: int = 288) -> str:
  """A small copy, as the address of an <img>; empty if it does not decode."""
  try:
    picture = images.decode(encoded)
  except RowError:
    return ''
  picture.thumbnail((side, side))
  with io.BytesIO() as out:
    picture.save(out, 'JPEG', quality=82)
    data = base64.b64encode(out.getvalue()).decode()
  return f'data:image/jpeg;base64,{data}'
