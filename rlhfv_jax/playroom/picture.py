"""Pictures of scenes, with all that makes looking harder than reading."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from rlhfv_jax.playroom.rooms import room
from rlhfv_jax.playroom.scene import PLACES, Group, Scene, rng_of
from rlhfv_jax.playroom.sprites import sprite

SIZE = 96
STREAM = 1
# Where the copies of a group stand in its cell, and how large they are, in
# parts of the cell.
LAYOUTS = {
  1: (0.88, ((0.5, 0.5),)),
  2: (0.54, ((0.28, 0.3), (0.72, 0.7))),
  3: (0.47, ((0.26, 0.27), (0.74, 0.5), (0.26, 0.75))),
}
GROW = (0.86, 1.02)  # scale of a group
TILTS = (-8, -4, 0, 4, 8)  # degrees
WANDER = 0.06  # of a cell: how far a group stands off, and half a copy
LIGHT = (0.82, 1.12)  # brightness of a picture
SLOPE = 0.14  # by how much it changes from one side to the other
GRAIN = 5.0  # deviation of the noise, of 255
HIDE = 0.15  # that something neutral covers a corner of a group
HIDERS = ((128, 124, 120), (150, 146, 138), (104, 102, 106))


def draw(scene: Scene, size: int = SIZE) -> Image.Image:
  """The picture of a scene: always the same one."""
  rng = rng_of(scene, STREAM)
  image = _set_room(scene.room, size, rng)
  for group in scene.groups:
    _place(image, group, size, rng)
  return _light(image, rng)


def _set_room(name: str, size: int, rng: np.random.Generator) -> Image.Image:
  """A part of the room, seen from a little elsewhere each time."""
  wide = room(name, size)
  slack = wide.width - size
  x = int(rng.integers(slack + 1))
  y = slack // 2 + int(rng.integers(-slack // 4, slack // 4 + 1))
  return wide.crop((x, y, x + size, y + size))


def _place(
  image: Image.Image, group: Group, size: int, rng: np.random.Generator
) -> None:
  """Draws the copies of a group into its cell, and what may cover a corner."""
  row, column = divmod(PLACES.index(group.place), 3)
  cell = size / 3
  share, spots = LAYOUTS[group.number]
  side = round(cell * share * rng.uniform(*GROW))
  away = rng.uniform(-WANDER, WANDER, 2)
  wobble = rng.uniform(-WANDER / 2, WANDER / 2, (len(spots), 2))
  tilt = TILTS[rng.integers(len(TILTS))]
  picture = sprite(group.kind, group.colour, size=side, tilt=tilt)
  for (x, y), (dx, dy) in zip(spots, away + wobble, strict=True):
    left = round((column + x + dx) * cell - side / 2)
    top = round((row + y + dy) * cell - side / 2)
    image.paste(picture, (left, top), picture)
  if rng.random() < HIDE:
    _cover_corner(image, (left, top), side, rng)


def _cover_corner(image, corner, side: int, rng: np.random.Generator) -> None:
  """A grey pebble over a lower corner of a copy: a ninth of it at most."""
  wide, high = side * rng.uniform(0.28, 0.38, 2)
  x = corner[0] + (0 if rng.random() < 0.5 else side - wide)
  y = corner[1] + side - high
  tone = HIDERS[rng.integers(len(HIDERS))]
  ImageDraw.Draw(image).ellipse((x, y, x + wide, y + high), tone)


@lru_cache(maxsize=8)
def _grain(size: int) -> np.ndarray:
  """One sheet of noise; each picture takes its own part of it."""
  rng = np.random.default_rng(0)
  return rng.normal(0, GRAIN, (2 * size, 2 * size, 1)).astype(np.float32)


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
  """Light that falls from somewhere, and grain."""
  size = image.width
  ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
  level = np.float32(rng.uniform(*LIGHT))
  right, down = rng.uniform(-SLOPE, SLOPE, 2).astype(np.float32)
  light = level + right * ramp[None, :, None] + down * ramp[:, None, None]
  x, y = rng.integers(size, size=2)
  pixels = np.asarray(image, np.float32) * light
  pixels += _grain(size)[y : y + size, x : x + size]
  return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def crop(
  image: Image.Image, rng: np.random.Generator, *, least: float = 0.8
) -> Image.Image:
  """A random part, at least this share of each side, in the old size.

  What is at an edge may be cut off, so that an answer about the whole may be
  wrong of the part: the papers' reason to leave such cropping out.
  """
  width, height = image.size
  share = rng.uniform(least, 1)
  wide, high = round(width * share), round(height * share)
  x, y = rng.integers(width - wide + 1), rng.integers(height - high + 1)
  box = (int(x), int(y), int(x) + wide, int(y) + high)
  return image.resize((width, height), Image.Resampling.BILINEAR, box)


def png(image: Image.Image) -> bytes:
  """Encoded as PNG, quickly rather than small."""
  out = io.BytesIO()
  image.save(out, 'png', compress_level=1)
  return out.getvalue()
