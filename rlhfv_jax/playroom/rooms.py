"""Rooms: the walls and floors that pictures are set in."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

FINE = 3  # rooms are drawn this much larger, then shrunk
MARGIN = 1.25  # and larger than a picture, which shows a part


@lru_cache(maxsize=32)
def room(name: str, size: int) -> Image.Image:
  """A room, MARGIN times as large as a picture of `size` pixels."""
  side = round(size * MARGIN)
  image = Image.new('RGB', (side * FINE, side * FINE))
  draw = ImageDraw.Draw(image)
  ROOMS[name](draw, side * FINE)
  return image.resize((side, side), Image.Resampling.BOX)


def _kitchen(draw: ImageDraw.ImageDraw, n: int) -> None:
  """Pale tiles above a floor of squares."""
  draw.rectangle((0, 0, n, n), (214, 200, 170))
  step = n // 9
  for k in range(0, n, step):
    draw.line((k, 0, k, n // 2), (190, 174, 142), n // 120)
    draw.line((0, k, n, k), (190, 174, 142), n // 120)
  for row, y in enumerate(range(n // 2, n, step)):
    for column, x in enumerate(range(0, n, step)):
      tone = (176, 150, 118) if (row + column) % 2 else (196, 172, 138)
      draw.rectangle((x, y, x + step, y + step), tone)


def _bedroom(draw: ImageDraw.ImageDraw, n: int) -> None:
  """Striped wallpaper above boards."""
  draw.rectangle((0, 0, n, n), (206, 176, 186))
  for x in range(0, n, n // 8):
    draw.rectangle((x, 0, x + n // 16, n // 2), (190, 156, 170))
  for row, y in enumerate(range(n // 2, n, n // 12)):
    tone = ((150, 112, 92), (162, 122, 100), (142, 106, 86))[row % 3]
    draw.rectangle((0, y, n, y + n // 12), tone)
    draw.line((0, y, n, y), (120, 88, 72), n // 120)


def _garden(draw: ImageDraw.ImageDraw, n: int) -> None:
  """Sky with clouds above grass with tufts."""
  draw.rectangle((0, 0, n, n), (160, 204, 232))
  for x, y in ((0.2, 0.14), (0.62, 0.28), (0.9, 0.1)):
    for dx, dy, r in ((-0.07, 0.01, 0.05), (0, -0.02, 0.07), (0.08, 0, 0.05)):
      box = (x + dx - r, y + dy - r / 2, x + dx + r, y + dy + r / 2)
      draw.ellipse([n * b for b in box], (196, 222, 238))
  draw.rectangle((0, n // 2, n, n), (164, 190, 112))
  rng = np.random.default_rng(7)
  for x, y in rng.uniform((0, 0.52), (1, 1), (90, 2)) * n:
    tuft = (x - n / 90, y, x, y - n / 40, x + n / 90, y)
    draw.line(tuft, (138, 166, 92), n // 120)


def _street(draw: ImageDraw.ImageDraw, n: int) -> None:
  """House fronts with windows above a road."""
  draw.rectangle((0, 0, n, n), (176, 182, 192))
  for i, x in enumerate(range(0, n, n // 4)):
    top = n // (12, 6, 20, 8)[i % 4]
    tone = ((150, 146, 150), (166, 158, 150), (140, 144, 154))[i % 3]
    draw.rectangle((x, top, x + n // 4, n // 2), tone)
    for wx in range(x + n // 24, x + n // 4 - n // 24, n // 12):
      for wy in range(top + n // 24, n // 2 - n // 24, n // 10):
        pane = (wx, wy, wx + n // 26, wy + n // 20)
        draw.rectangle(pane, (186, 196, 204))
  draw.rectangle((0, n // 2, n, n), (112, 114, 120))
  draw.rectangle((0, n // 2, n, n // 2 + n // 24), (154, 152, 150))
  for x in range(0, n, n // 5):
    y = int(n * 0.76)
    draw.rectangle((x, y, x + n // 10, y + n // 50), (176, 176, 170))


ROOMS = {
  'kitchen': _kitchen,
  'bedroom': _bedroom,
  'garden': _garden,
  'street': _street,
}
