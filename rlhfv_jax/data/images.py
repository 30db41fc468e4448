"""Pictures: encoded bytes -> u8[H,W,3], as the vision tower wants them."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rlhfv_jax.data.rows import Example, RowError

MAX_PIXELS = 50_000_000


def digest(encoded: bytes | None) -> str | None:
  """Names a picture by its encoded bytes."""
  return encoded and hashlib.blake2b(encoded, digest_size=16).hexdigest()


def decode(encoded: bytes) -> Image.Image:
  """RGB, upright; what is transparent becomes white."""
  try:
    picture = Image.open(io.BytesIO(encoded))
    width, height = picture.size
    if width * height <= MAX_PIXELS:
      return _rgb(ImageOps.exif_transpose(picture))
  except UnidentifiedImageError as error:
    raise RowError(
      'undecodable picture', f'{len(encoded)} bytes of no known format'
    ) from error
  except Exception as error:  # decoders raise whatever broken bytes lead to
    raise RowError(
      'undecodable picture', f'{len(encoded)} bytes, {error}'
    ) from error
  raise RowError(
    'picture too large',
    f'{width} x {height} pixels, the limit is {MAX_PIXELS}: scale it down',
  )


def _rgb(picture: Image.Image) -> Image.Image:
  if picture.mode.startswith('I;16') or picture.mode == 'I':
    # A conversion would clip to 255: 16 bits are scaled to 8.
    scaled = np.asarray(picture).astype(np.int64) >> 8
    picture = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
  if picture.has_transparency_data:
    over = picture.convert('RGBA')
    paper = Image.new('RGBA', over.size, 'white')
    picture = Image.alpha_composite(paper, over)
  return picture.convert('RGB')


def squash(picture: Image.Image, size: int) -> Image.Image:
  """To the square, whatever the aspect ratio, as RLHF-V evaluates."""
  if picture.size == (size, size):
    return picture
  return picture.resize((size, size), Image.Resampling.BICUBIC)


POLICIES = {'squash': squash}


def load(encoded: bytes, size: int, *, policy: str = 'squash') -> np.ndarray:
  """u8[size,size,3]."""
  if policy not in POLICIES:
    raise ValueError(f'image policy {policy!r}: one of {sorted(POLICIES)}')
  return np.asarray(POLICIES[policy](decode(encoded), size))


class Pictures:
  """The pictures of a source by row number; kept in memory where they are few.

  A row without a picture is black. A worker process decodes for itself: the
  kept pictures are not sent to it.
  """

  def __init__(
    self,
    examples: Sequence[Example],
    size: int,
    policy: str = 'squash',
    cache_bytes: int = 2**30,
  ):
    self.examples, self.size, self.policy = examples, size, policy
    self._kept = None
    if len(examples) * size * size * 3 <= cache_bytes:
      self._kept = np.zeros((len(examples), size, size, 3), np.uint8)
      self._known = np.zeros(len(examples), bool)

  def __reduce__(self):
    return Pictures, (self.examples, self.size, self.policy, 0)

  def __getitem__(self, index: int) -> np.ndarray:
    if self._kept is None:
      return self._load(index)
    if not self._known[index]:
      self._kept[index] = self._load(index)
      self._known[index] = True
    return self._kept[index]

  def _load(self, index: int) -> np.ndarray:
    example = self.examples[index]
    if example.image is None:
      return np.zeros((self.size, self.size, 3), np.uint8)
    try:
      return load(example.image, self.size, policy=self.policy)
    except RowError as error:
      raise RowError(
        error.reason, f'row {index} ({example.id}): {error.detail}'
      ) from error
