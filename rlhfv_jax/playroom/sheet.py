"""A contact sheet: scenes as pictures, with what is true and what is told.

python -m rlhfv_jax.playroom.sheet OUT.png
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Resampling

from rlhfv_jax.playroom.captions import noisy_caption
from rlhfv_jax.playroom.dataset import CAPTION_STREAM, scenes
from rlhfv_jax.playroom.picture import draw
from rlhfv_jax.playroom.scene import Scene, World, rng_of
from rlhfv_jax.playroom.truth import unsupported

PAPER, INK, WRONG = 'white', (50, 50, 54), (206, 20, 20)
MARGIN, LEADING = 10, 16


def contact_sheet(
  path: str | Path,
  *,
  world: World | None = None,
  split: str = 'train',
  columns: int = 4,
  rows: int = 3,
  zoom: int = 2,
  seed: int = 381,  # every kind, room and sort of mistake in twelve scenes
) -> None:
  """Saves a sheet of noisy captions, their unsupported claims in red."""
  world = world or World()
  font = ImageFont.load_default(12)
  cards = [
    _card(scene, world, zoom, font)
    for scene in scenes(world, split, columns * rows, seed=seed)
  ]
  lines = [cards[i : i + columns] for i in range(0, len(cards), columns)]
  heights = [max(card.height for card in line) for line in lines]
  wide = cards[0].width
  sheet = Image.new('RGB', (columns * wide, sum(heights)), PAPER)
  for row, line in enumerate(lines):
    for column, card in enumerate(line):
      sheet.paste(card, (column * wide, sum(heights[:row])))
  sheet.save(path)


def _card(scene: Scene, world: World, zoom: int, font) -> Image.Image:
  """A picture above its caption."""
  picture = draw(scene)
  side = picture.width * zoom
  text = noisy_caption(scene, rng_of(scene, CAPTION_STREAM), world)
  words, lines = _wrap(text, font, side)
  high = MARGIN + side + LEADING * lines + 2 * MARGIN
  card = Image.new('RGB', (side + 2 * MARGIN, high), PAPER)
  card.paste(picture.resize((side, side), Resampling.NEAREST), (MARGIN, MARGIN))
  pen = ImageDraw.Draw(card)
  wrong = unsupported(scene, text)
  for word, start, x, line in words:
    end = start + len(word)
    bad = any(claim.start < end and start < claim.end for claim in wrong)
    y = MARGIN + side + 4 + LEADING * line
    pen.text((MARGIN + x, y), word, WRONG if bad else INK, font)
  return card


def _wrap(text: str, font, wide: float) -> tuple[list[tuple], int]:
  """Each word with its character, x and line; and how many lines there are."""
  words, x, line = [], 0.0, 0
  for match in re.finditer(r'\S+', text):
    length = font.getlength(match[0] + ' ')
    if x + length > wide + MARGIN / 2:
      x, line = 0.0, line + 1
    words.append((match[0], match.start(), x, line))
    x += length
  return words, line + 1


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  contact_sheet(sys.argv[1])
