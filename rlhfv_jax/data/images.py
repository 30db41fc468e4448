"""Pictures: encoded bytes -> u8[H,W,3], as the vision tower wants them."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rlhfv_jax.data.augment import AUGMENTATIONS
from rlhfv_jax.data.rows import Example, RowError
from rlhfv_jax.data.views import digest as digest
from rlhfv_jax.data.views import name, roll

MAX_PIXELS = 2**26  # phones make 48 million
MAX_EDGE = 65_535  # as in JPEG: one longer takes memory while it is scaled
CLIP_MEAN = (122, 116, 104)  # CLIP's mean colour, rounded down as in LLaVA


def decode(encoded: bytes) -> Image.Image:
  """RGB, upright; what is transparent becomes white. The first of several."""
  try:
    picture = Image.open(io.BytesIO(encoded))
    width, height = picture.size
    if width * height <= MAX_PIXELS and max(width, height) <= MAX_EDGE:
      picture.load()
      ImageOps.exif_transpose(picture, in_place=True)
      return _rgb(picture)
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
    f'{width} x {height} pixels, the limit is {MAX_PIXELS}, and {MAX_EDGE} on '
    'an edge: scale it down',
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
  return picture if picture.mode == 'RGB' else picture.convert('RGB')


def squash(picture: Image.Image, size: int) -> Image.Image:
  """To the square, whatever the aspect ratio, as RLHF-V evaluates."""
  return picture.resize((size, size), Image.Resampling.BICUBIC)


def pad(picture: Image.Image, size: int) -> Image.Image:
  """All of it, in the middle of a square of CLIP's mean colour, as in LLaVA."""
  (width, height), side = picture.size, max(picture.size)
  if width != height:
    _check(picture, side, side)
    canvas = Image.new('RGB', (side, side), CLIP_MEAN)
    canvas.paste(picture, ((side - width) // 2, (side - height) // 2))
    picture = canvas
  return squash(picture, size)


def crop(picture: Image.Image, size: int) -> Image.Image:
  """The square in the middle, as CLIP was trained: the short edge fills it."""
  width, height = picture.size
  w = int(size * width / height) if height < width else size
  h = int(size * height / width) if width < height else size
  _check(picture, w, h)
  left, top = (w - size) // 2, (h - size) // 2
  if width > height and _exact(left * width, w) and _exact(size * width, w):
    # What is cut off need not be scaled. Of a tall picture it must: where less
    # is scaled, Pillow may go down before it goes across, and round otherwise.
    box = (left * width / w, 0, (left + size) * width / w, height)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box)
  scaled = picture.resize((w, h), Image.Resampling.BICUBIC)
  return scaled.crop((left, top, left + size, top + size))


def _exact(a: int, b: int) -> bool:
  """Whether a place a / b in a picture is one of Pillow's, in float32."""
  return 64 * a % b == 0


def _check(picture: Image.Image, width: int, height: int) -> None:
  if width * height > MAX_PIXELS:
    raise RowError(
      'picture too large',
      f'{" x ".join(map(str, picture.size))} pixels have to become {width} x '
      f'{height}, the limit is {MAX_PIXELS}: cut it, or squash pictures',
    )


POLICIES = {'squash': squash, 'pad': pad, 'crop': crop}


def load(
  encoded: bytes,
  size: int,
  *,
  policy: str = 'squash',
  augment: str = 'none',
  seed: int = 0,
  view: int = 0,
) -> np.ndarray:
  """u8[size,size,3]: a view of the picture."""
  if policy not in POLICIES:
    raise ValueError(f'image policy {policy!r}: one of {sorted(POLICIES)}')
  if augment not in ('none', *AUGMENTATIONS):
    known = ['none', *AUGMENTATIONS]
    raise ValueError(f'augmentation {augment!r}: one of {known}')
  picture, fit = decode(encoded), POLICIES[policy]
  if augment == 'none':
    return np.asarray(fit(picture, size))
  dice = roll(name(encoded, augment=augment, seed=seed, view=view))
  return np.asarray(AUGMENTATIONS[augment](picture, size, fit=fit, roll=dice))


class Pictures:
  """The pictures of a source by row number; kept in memory where they are few.

  With K `views` of N pictures, row i + kN is view k of picture i. A row without
  a picture is black. A worker process decodes for itself: the kept pictures are
  not sent to it.
  """

  key, dtype = 'images', np.uint8

  def __init__(
    self,
    examples: Sequence[Example],
    size: int,
    policy: str = 'squash',
    cache_bytes: int = 2**30,
    augment: str = 'none',
    seed: int = 0,
    views: int = 1,
  ):
    if views > 1 and augment == 'none':
      raise ValueError(
        f'{views} views of pictures that nothing changes would be alike: '
        f'choose an augmentation of {sorted(AUGMENTATIONS)}, or one view'
      )
    self.examples, self.size, self.policy = examples, size, policy
    self.augment, self.seed, self.views = augment, seed, views
    self.shape = (size, size, 3)
    self._kept, total = None, len(examples) * views
    if total * size * size * 3 <= cache_bytes:
      self._kept = np.zeros((total, size, size, 3), np.uint8)
      self._known = np.zeros(total, bool)

  def __reduce__(self):
    return Pictures, (
      self.examples, self.size, self.policy, 0, self.augment, self.seed,
      self.views,
    )  # fmt: skip

  def __getitem__(self, index: int) -> np.ndarray:
    if self._kept is None:
      return self._load(index)
    if not self._known[index]:
      self._kept[index] = self._load(index)
      self._known[index] = True
    return self._kept[index]

  def name(self, index: int) -> str | None:
    """Names the pixels of a row: what a cache depends on."""
    view, i = divmod(index, len(self.examples))
    return name(
      self.examples[i].image, augment=self.augment, seed=self.seed, view=view
    )

  def _load(self, index: int) -> np.ndarray:
    view, i = divmod(index, len(self.examples))
    example = self.examples[i]
    if example.image is None:
      return np.zeros((self.size, self.size, 3), np.uint8)
    try:
      return load(
        example.image, self.size, policy=self.policy, augment=self.augment,
        seed=self.seed, view=view,
      )  # fmt: skip
    except RowError as error:
      where = getattr(self.examples, 'where', lambda index: f'row {index}')
      raise RowError(
        error.reason, f'{where(i)} ({example.id}): {error.detail}'
      ) from error
