"""Augmentations, named by whether what is true of a picture stays true."""

import math
from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

Roll = Callable[[], float]  # the next random number of [0, 1)
Fit = Callable[[Image.Image, int], Image.Image]  # a policy of `images`

GREY = (128, 128, 128)


def trusted(
  picture: Image.Image, size: int, *, fit: Fit, roll: Roll
) -> Image.Image:
  """A little light: all stays in the frame, at its place, in its colour."""
  picture = fit(picture, size)
  for change, least, most in (
    (ImageEnhance.Brightness, 0.9, 1.1),
    (ImageEnhance.Contrast, 0.9, 1.1),
    (ImageEnhance.Sharpness, 0.7, 1.3),
  ):
    picture = change(picture).enhance(_between(roll, least, most))
  return picture


def untrusted(
  picture: Image.Image, size: int, *, fit: Fit, roll: Roll
) -> Image.Image:
  """What Muffin trained with: things are cut off, and left becomes right.

  A crop scaled to the square (no policy), a flip, then RandAugment. The numbers
  are the original's, the operations Pillow's where it had OpenCV's.
  """
  picture = picture.crop(crop_box(*picture.size, roll=roll))
  picture = picture.resize((size, size), Image.Resampling.BILINEAR)
  if roll() < 0.5:
    picture = ImageOps.mirror(picture)
  return rand_augment(picture, roll=roll)


AUGMENTATIONS = {'trusted': trusted, 'untrusted': untrusted}


def crop_box(
  width: int,
  height: int,
  *,
  roll: Roll,
  scale: tuple[float, float] = (0.5, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
  """Left, top, right, bottom of a share of the picture, as timm draws it.

  After ten shapes that do not fit, it is the most of the middle that has an
  allowed ratio.
  """
  for _ in range(10):
    area = width * height * _between(roll, *scale)
    aspect = math.exp(_between(roll, *map(math.log, ratio)))
    w = max(1, round(math.sqrt(area * aspect)))
    h = max(1, round(math.sqrt(area / aspect)))
    if w <= width and h <= height:
      left, top = int(roll() * (width - w + 1)), int(roll() * (height - h + 1))
      return left, top, left + w, top + h
  w = min(width, max(1, round(height * ratio[1])))
  h = min(height, max(1, round(width / ratio[0])))
  left, top = (width - w) // 2, (height - h) // 2
  return left, top, left + w, top + h


def rand_augment(
  picture: Image.Image, *, roll: Roll, count: int = 2, magnitude: float = 0.7
) -> Image.Image:
  """`count` operations, each drawn from all and done every second time."""
  for _ in range(count):
    change = _OPERATIONS[int(roll() * len(_OPERATIONS))]
    done, sign = roll() < 0.5, 1 if roll() < 0.5 else -1
    if done:
      picture = change(picture, magnitude, sign)
  return picture


def _affine(picture: Image.Image, a, b, c, d, e, f) -> Image.Image:
  """Pixel (x, y) is taken from (ax + by + c, dx + ey + f)."""
  return picture.transform(
    picture.size, Image.Transform.AFFINE, (a, b, c, d, e, f),
    Image.Resampling.BILINEAR, fillcolor=GREY,
  )  # fmt: skip


_OPERATIONS = (
  lambda p, m, sign: p,
  lambda p, m, sign: ImageOps.autocontrast(p),
  lambda p, m, sign: ImageOps.equalize(p),
  lambda p, m, sign: ImageEnhance.Brightness(p).enhance(0.1 + 1.8 * m),
  lambda p, m, sign: ImageEnhance.Sharpness(p).enhance(0.1 + 1.8 * m),
  lambda p, m, sign: _affine(p, 1, 0.3 * m * sign, 0, 0, 1, 0),
  lambda p, m, sign: _affine(p, 1, 0, 0, 0.3 * m * sign, 1, 0),
  lambda p, m, sign: _affine(p, 1, 0, 10 * m * sign, 0, 1, 0),
  lambda p, m, sign: _affine(p, 1, 0, 0, 0, 1, 10 * m * sign),
  lambda p, m, sign: p.rotate(
    30 * m * sign, Image.Resampling.BILINEAR, fillcolor=GREY
  ),
)


def _between(roll: Roll, least: float, most: float) -> float:
  return least + (most - least) * roll()
