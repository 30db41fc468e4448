"""What is annotated: anybody's answers, a run's, or the playroom's."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlhfv_jax import files
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example, RowError, validate
from rlhfv_jax.data.formats import jsonl, llava
from rlhfv_jax.data.storage import records
from rlhfv_jax.data.storage.beside import Beside
from rlhfv_jax.data.storage.lazy import Source
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World, sample

PLAYROOM = 'playroom:test/describe/200'
MODES = {'correct': 1, 'rank': 2}
_SCENE = re.compile(r'(\w+)-(\d+)-(\d+)(?:-\w+)?')


def default(runs: Path = Path('runs')) -> str:
  """The newest run's answers, or captions that say what is not there."""
  found = runs.glob('*/answers/base.jsonl')
  newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
  return str(newest) if newest else PLAYROOM


def open_source(spec: str, images: str | None) -> Sequence[Example]:
  """'kind:path', or a file of answers with its pictures in a folder.

  Answers of a run to the playroom have no pictures: they are drawn again.
  """
  kind, path = sources.split(spec)
  plain = kind == 'examples' and path.endswith('.jsonl')
  if kind != 'jsonl' and not plain:
    return sources.open(spec, **({'images': images} if images else {}))
  if not Path(path).is_file():
    return jsonl.read(path, images=images)
  table = records.read(path)
  first = table[0] if len(table) else {}
  if 'image' in first or not _SCENE.fullmatch(str(first.get('id'))):
    folder = images or llava.find_images(table, Path(path).parent)
    return Source(Beside(table, 'image', folder), jsonl.to_example)
  world = _world(Path(path).parent.parent / 'config.json')
  return Source(table, functools.partial(_drawn, world=world))


def usable(source: Sequence[Example], mode: str, told: list) -> Iterator:
  """Examples with the answers that the mode needs; others are `told` of."""
  for index in range(len(source)):
    try:
      yield _fit(validate(source[index]), mode)
    except RowError as error:
      told.append(f'row {index}: {error}')


def _fit(example: Example, mode: str) -> Example:
  if len(example.answers) < MODES[mode]:
    raise RowError(
      'too few answers',
      f'{len(example.answers)}; to {mode} takes {MODES[mode]}',
    )
  if mode == 'correct':
    example = replace(example, answers=example.answers[-1:], spans=None)
  elif example.answers[0] == example.answers[1]:
    raise RowError('equal answers', 'there is nothing to rank')
  # A browser's text has one kind of line end, and the diff must not see it.
  kept = tuple(re.sub('\r\n?', '\n', text) for text in example.answers)
  if kept == example.answers:
    return example
  as_given = {'answers_as_given': list(example.answers)}
  return replace(example, answers=kept, extra={**example.extra, **as_given})


def _drawn(record: dict, index: int, *, world: World) -> Example:
  example = jsonl.to_example(record, index)
  match = _SCENE.fullmatch(example.id)
  if not match:
    raise RowError('no picture', f'{example.id}: no scene of the playroom')
  split, seed, number = match.groups()
  try:
    scene = sample(world, split, index=int(number), seed=int(seed))
  except (KeyError, ValueError) as error:
    raise RowError('no picture', f'{example.id}: {error}') from error
  return replace(example, image=png(draw(scene)), origin='playroom')


def _world(path: Path) -> World:
  """The world of the run that the answers lie in."""
  if not path.is_file():
    return World()
  told = files.read_json(path)
  told = told.get('config', told).get('world', {})
  return World(
    **{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
  )
