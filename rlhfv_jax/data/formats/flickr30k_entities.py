"""Flickr30k Entities: captions that say where each thing they name stands.

Sentences/ID.txt has five captions with their phrases marked
([/EN#283585/people Two men] play), Annotations/ID.xml the boxes of each mark.
The reply is a caption with each phrase's boxes after it, as numbers in text.
"""

import functools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from rlhfv_jax.data import picks
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.storage import folders, places
from rlhfv_jax.data.storage.lazy import Source

PROMPTS = (
  'Caption this picture and put the box of everything you name after it.',
  'Say what is in the picture, each thing with the box that it stands in.',
  'Describe the picture in a sentence, with a box for each thing you mention.',
)
BOX, BETWEEN = '[{:.3f},{:.3f},{:.3f},{:.3f}]', ';'
FRAMES = ('square', 'picture')
_PHRASE = re.compile(r'\[/EN#(\d+)/([^ \]]*) ([^\]]*)\]')


class Files(Sequence):
  """The names of the pictures that have sentences and boxes."""

  def __init__(self, folder: Path, ids: Sequence[str]):
    self.folder, self.ids = folder, tuple(ids)

  def __repr__(self) -> str:
    return f'Files({self.folder}, {len(self)})'

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> tuple[str, list[str], str]:
    """Its name, its sentences and its annotation."""
    id = self.ids[index]
    sentences = self._text(f'Sentences/{id}.txt').splitlines()
    return id, sentences, self._text(f'Annotations/{id}.xml')

  def where(self, index: int) -> str:
    return f'{self.folder}, picture {self.ids[index]}'

  def files(self) -> list[Path]:
    return [self.folder / name for name in ('Sentences', 'Annotations')]

  def _text(self, name: str) -> str:
    try:
      return (self.folder / name).read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
      raise RowError('unreadable annotation', f'{name}: {error}') from error


def read(
  path: str | Path,
  *,
  split: str = 'train',
  prompts: Sequence[str] = PROMPTS,
  box: str = BOX,
  frame: str = 'square',
  images: str | Path | None = None,
) -> Source:
  """A folder with Sentences/, Annotations/, SPLIT.txt and the pictures.

  Boxes are parts of the picture padded to a square, as LLaVA sees it, or with
  frame=picture of the picture itself.
  """
  if frame not in FRAMES:
    raise ValueError(f'frame {frame!r}: one of {", ".join(FRAMES)}')
  path = places.local(path)
  names = path / f'{split}.txt'
  if not names.exists():
    raise ValueError(f'{names}: no such list of pictures')
  ids = names.read_text('utf-8').split()
  if not ids:
    raise ValueError(f'{names}: names no pictures')
  images = str(images or folders.find(path, [f'{id}.jpg' for id in ids[:16]]))
  return Source(
    Files(path, ids),
    functools.partial(
      to_example, prompts=tuple(prompts), box=box, frame=frame, images=images
    ),
  )


def to_example(
  found: tuple[str, list[str], str],
  index: int,
  *,
  prompts: tuple[str, ...],
  box: str,
  frame: str,
  images: str,
) -> Example:
  id, sentences, annotation = found
  if not sentences:
    raise RowError('no sentence', f'Sentences/{id}.txt is empty')
  size, boxes = read_boxes(annotation, id)
  sentence = picks.one_of(sentences, id)
  name = f'{id}.jpg'
  return Example(
    id=f'flickr30k-{id}',
    image=folders.picture(images, name),
    turns=(('user', picks.one_of(prompts, id)),),
    answers=(spotting(sentence, boxes, size=size, box=box, frame=frame),),
    image_path=name,
    origin='flickr30k_entities',
    facts=tuple(_PHRASE.sub(r'\3', sentence) for sentence in sentences),
  )


def spotting(
  sentence: str,
  boxes: dict[str, list[tuple[int, ...]]],
  *,
  size: tuple[int, int],
  box: str = BOX,
  frame: str = 'square',
) -> str:
  """The sentence with its boxes: 'Two men[0.1,0.2,0.3,0.4] play'."""
  width, height = size
  wide, high = (max(size),) * 2 if frame == 'square' else size
  left, top = (wide - width) // 2, (high - height) // 2

  def placed(phrase: re.Match) -> str:
    there = [
      box.format((x0 + left) / wide, (y0 + top) / high,
                 (x1 + left) / wide, (y1 + top) / high)
      for x0, y0, x1, y1 in boxes.get(phrase[1], ())
    ]  # fmt: skip
    return phrase[3] + BETWEEN.join(there)

  return _PHRASE.sub(placed, sentence).strip()


def read_boxes(
  annotation: str, id: str
) -> tuple[tuple[int, int], dict[str, list[tuple[int, ...]]]]:
  """The picture's size, and by mark the boxes (x0, y0, x1, y1) in pixels."""
  try:
    root = ElementTree.fromstring(annotation)
    size = tuple(int(root.findtext(f'size/{k}')) for k in ('width', 'height'))
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for thing in root.iter('object'):
      for found in thing.iter('bndbox'):
        corners = tuple(
          int(found.findtext(k)) for k in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        for mark in thing.findall('name'):
          boxes.setdefault(mark.text, []).append(corners)
  except (ElementTree.ParseError, TypeError, ValueError) as error:
    raise RowError(
      'malformed annotation', f'Annotations/{id}.xml: {error}'
    ) from error
  return size, boxes
