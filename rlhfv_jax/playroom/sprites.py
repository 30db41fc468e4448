"""The things themselves: one silhouette a kind, drawn in a colour."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from PIL import Image, ImageDraw

RGB = {
  'red': (214, 38, 38),
  'orange': (250, 150, 20),
  'green': (40, 160, 60),
  'blue': (38, 88, 214),
  'purple': (146, 50, 178),
  'white': (246, 246, 242),
}
INK = (38, 34, 40)
WOOD = (122, 84, 52)
PAPER = (250, 246, 226)
GLASS = (190, 220, 234)
LEAF = (58, 128, 62)
CANVAS = 128  # pixels; shapes are told in hundredths of it
LINE = 5


class Pencil:
  """Outlined shapes in a 100 x 100 square."""

  def __init__(self, image: Image.Image):
    self.draw = ImageDraw.Draw(image)
    self.scale = image.width / 100

  def _at(self, points):
    return [(x * self.scale, y * self.scale) for x, y in points]

  def _width(self, line: float) -> int:
    return max(1, round(line * self.scale))

  def shape(self, *points, fill, line: float = LINE) -> None:
    xy = self._at(points)
    self.draw.polygon(xy, fill=fill)
    if line:
      closed = [*xy, xy[0], xy[1]]
      self.draw.line(closed, INK, self._width(line), joint='curve')

  def box(self, x0, y0, x1, y1, *, fill, line: float = LINE) -> None:
    self.shape((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill, line=line)

  def oval(self, x0, y0, x1, y1, *, fill, line: float = LINE) -> None:
    (x0, y0), (x1, y1) = self._at([(x0, y0), (x1, y1)])
    width = self._width(line) if line else 0
    self.draw.ellipse((x0, y0, x1, y1), fill, INK if line else None, width)

  def pie(self, x0, y0, x1, y1, start, end, *, fill) -> None:
    xy = [c for point in self._at([(x0, y0), (x1, y1)]) for c in point]
    self.draw.pieslice(xy, start, end, fill, INK, self._width(LINE))

  def arc(self, x0, y0, x1, y1, start, end, *, fill=INK, line=LINE) -> None:
    xy = [c for point in self._at([(x0, y0), (x1, y1)]) for c in point]
    self.draw.arc(xy, start, end, fill, self._width(line))

  def path(self, *points, fill=INK, line: float = LINE) -> None:
    self.draw.line(self._at(points), fill, self._width(line), joint='curve')


def shade(colour, factor: float):
  """The colour, darker or (above 1) lighter."""
  if factor > 1:
    return tuple(round(255 - (255 - c) * (2 - factor)) for c in colour)
  return tuple(round(c * factor) for c in colour)


def _ball(p: Pencil, c) -> None:
  p.oval(8, 8, 92, 92, fill=c)
  p.arc(-30, 14, 46, 86, 300, 60, fill=shade(c, 0.6), line=6)
  p.arc(54, 14, 130, 86, 120, 240, fill=shade(c, 0.6), line=6)
  p.oval(30, 18, 48, 32, fill=shade(c, 1.7), line=0)


def _bed(p: Pencil, c) -> None:
  for x in (4, 87):
    p.box(x, 66, x + 9, 92, fill=WOOD, line=3)
  p.box(2, 14, 13, 76, fill=WOOD, line=4)
  p.shape((13, 50), (97, 50), (97, 78), (13, 78), fill=c)
  p.oval(14, 34, 44, 56, fill=PAPER)
  p.shape((46, 42), (90, 42), (97, 50), (97, 64), (46, 64), fill=shade(c, 0.8))


def _bench(p: Pencil, c) -> None:
  for x in (14, 77):
    p.box(x, 60, x + 9, 90, fill=INK, line=0)
    p.box(x + 2, 20, x + 7, 60, fill=INK, line=0)
  for y in (18, 37):
    p.box(4, y, 96, y + 14, fill=c, line=4)
  p.box(2, 58, 98, 72, fill=c, line=4)


def _book(p: Pencil, c) -> None:
  p.shape((3, 26), (50, 38), (97, 26), (97, 84), (50, 96), (3, 84), fill=c)
  for left in (1, -1):
    x0, x1, x2 = 50 - 36 * left, 50 - 29 * left, 50 - 8 * left
    p.shape((x0, 14), (50, 28), (50, 78), (x0, 66), fill=PAPER, line=4)
    for y in (28, 40, 52):
      p.path((x1, y), (x2, y + 7), fill=c, line=6)


def _box(p: Pencil, c) -> None:
  p.shape((6, 32), (50, 46), (50, 96), (6, 78), fill=c)
  p.shape((94, 32), (50, 46), (50, 96), (94, 78), fill=shade(c, 0.7))
  p.shape((6, 32), (50, 16), (94, 32), (50, 46), fill=shade(c, 1.35))
  p.path((28, 24), (72, 39), fill=shade(c, 0.55), line=6)


def _car(p: Pencil, c) -> None:
  p.shape((22, 48), (36, 20), (70, 20), (86, 48), fill=c)
  p.shape((34, 46), (42, 28), (51, 28), (51, 46), fill=GLASS, line=3)
  p.shape((57, 46), (57, 28), (66, 28), (74, 46), fill=GLASS, line=3)
  p.shape((4, 48), (92, 48), (97, 58), (97, 72), (4, 72), fill=c)
  for x in (16, 64):
    p.oval(x, 60, x + 24, 84, fill=INK, line=0)
    p.oval(x + 7, 67, x + 17, 77, fill=(200, 200, 204), line=0)


def _chair(p: Pencil, c) -> None:
  p.box(18, 60, 28, 97, fill=WOOD, line=3)
  p.box(76, 60, 86, 97, fill=WOOD, line=3)
  p.shape((12, 3), (32, 3), (34, 52), (16, 52), fill=c)
  p.box(14, 49, 90, 67, fill=c)


def _clock(p: Pencil, c) -> None:
  p.path((26, 84), (16, 97), line=8)
  p.path((74, 84), (84, 97), line=8)
  p.pie(8, 4, 46, 42, 150, 330, fill=c)
  p.pie(54, 4, 92, 42, 210, 30, fill=c)
  p.oval(10, 14, 90, 94, fill=c)
  p.oval(25, 29, 75, 79, fill=PAPER, line=4)
  p.path((50, 36), (50, 55), (64, 62), line=6)


def _cup(p: Pencil, c) -> None:
  p.oval(56, 32, 96, 72, fill=c)
  p.oval(67, 43, 85, 61, fill=(0, 0, 0, 0), line=4)
  p.shape((8, 20), (74, 20), (68, 90), (14, 90), fill=c)
  p.oval(8, 12, 74, 30, fill=shade(c, 0.5))


def _flower(p: Pencil, c) -> None:
  p.path((50, 50), (50, 98), fill=LEAF, line=9)
  p.shape((50, 92), (78, 70), (84, 82), fill=LEAF, line=0)
  p.shape((50, 84), (22, 64), (16, 76), fill=LEAF, line=0)
  for x, y in ((50, 15), (72, 31), (64, 56), (36, 56), (28, 31)):
    p.oval(x - 16, y - 14, x + 16, y + 18, fill=c, line=4)
  p.oval(36, 26, 64, 54, fill=(250, 214, 70), line=4)


def _kite(p: Pencil, c) -> None:
  p.path((44, 72), (58, 80), (42, 89), (56, 98), line=6)
  p.shape((50, 2), (92, 32), (45, 76), (8, 30), fill=c)
  p.shape((50, 2), (92, 32), (45, 76), fill=shade(c, 0.72), line=0)
  p.path((50, 2), (45, 76), line=4)
  p.path((8, 30), (92, 32), line=4)


def _lamp(p: Pencil, c) -> None:
  p.box(45, 44, 55, 90, fill=WOOD, line=3)
  p.oval(20, 84, 80, 98, fill=WOOD, line=4)
  p.shape((36, 2), (64, 2), (82, 48), (18, 48), fill=c)


def _tree(p: Pencil, c) -> None:
  p.box(41, 76, 59, 98, fill=WOOD, line=4)
  p.shape((50, 30), (92, 80), (8, 80), fill=c)
  p.shape((50, 2), (82, 50), (18, 50), fill=c)


def _umbrella(p: Pencil, c) -> None:
  p.path((50, 40), (50, 84), line=8)
  p.arc(50, 70, 76, 96, 0, 180, line=8)
  p.pie(2, 8, 98, 98, 180, 360, fill=c)
  for x in (2, 34, 67):
    p.pie(x, 45, x + 31, 61, 180, 360, fill=shade(c, 0.6))
  p.path((50, 0), (50, 10), line=6)


SHAPES: dict[str, Callable[[Pencil, tuple], None]] = {
  'ball': _ball,
  'bed': _bed,
  'bench': _bench,
  'book': _book,
  'box': _box,
  'car': _car,
  'chair': _chair,
  'clock': _clock,
  'cup': _cup,
  'flower': _flower,
  'kite': _kite,
  'lamp': _lamp,
  'tree': _tree,
  'umbrella': _umbrella,
}


@cache
def _large(kind: str, colour: str, tilt: int) -> Image.Image:
  image = Image.new('RGBA', (CANVAS, CANVAS))
  SHAPES[kind](Pencil(image), RGB[colour])
  return image.rotate(tilt, Image.Resampling.BILINEAR) if tilt else image


@lru_cache(maxsize=16384)
def sprite(kind: str, colour: str, *, size: int, tilt: int = 0) -> Image.Image:
  """An RGBA picture of one thing, `size` pixels high and wide."""
  large = _large(kind, colour, tilt)
  return large.resize((size, size), Image.Resampling.BOX)
