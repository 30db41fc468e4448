"""What is annotated: anybody's answers, a run's, or the playroom's."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlhfv_jax import feedback, files
from rlhfv_jax.benchmarks import mhumaneval
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example, RowError, validate
from rlhfv_jax.data.formats import jsonl, llava
from rlhfv_jax.data.storage import records
from rlhfv_jax.data.storage.beside import Beside
from rlhfv_jax.data.storage.lazy import Source
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World, sample

# Pictures that the playroom's feedback is about: not those of its test.
PLAYROOM = f'playroom:train/describe/200?start={feedback.FIRST}'
MODES = {'correct': 1, 'rank': 2, 'label': 1}
_SCENE = re.compile(r'(\w+)-(\d+)-(\d+)(?:-\w+)?')


def default(runs: Path = Path('runs')) -> str:
  """What the newest run's model said before anybody corrected it, or captions
  that say what is not there."""
  found = runs.glob('*/feedback/answers-train-000.jsonl')
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
  if mode == 'label':  # blind: equal answers are one item, whoever gave them
    return Example(
      example.id, example.image, example.turns, example.answers[-1:]
    )
  if mode == 'correct':
    example = replace(example, answers=example.answers[-1:], spans=None)
  elif example.answers[0] == example.answers[1]:
    raise RowError('equal answers', 'there is nothing to rank')
  # A browser's text has one kind of line end, and the diff must not see it.
  kept = tuple(re.sub('\r\n?', '\n', text) for text in example.answers)
  if kept == example.answers:
    return example
  extra = {k: v for k, v in example.extra.items() if k != 'doubts'}
  extra['answers_as_given'] = list(example.answers)
  return replace(example, answers=kept, extra=extra)


def shuffled(examples: Iterable[Example]) -> list[Example]:
  """In an order that tells nobody which model an answer is of."""
  return sorted(examples, key=lambda e: mhumaneval.mark(e.id, e.answers[-1]))


def asked(
  examples: Iterable[Example], path: str, images: str | None
) -> Iterator[Example]:
  """With the pictures of the questions that they answer, by id."""
  questions = {q['id']: q for q in mhumaneval.questions(path, images=images)}
  for example in examples:
    question = questions.get(example.id)
    if question is None:
      raise ValueError(f'{path}: no question {example.id!r}, which is answered')
    image = question.get('image')
    if image is None and question.get('image_path'):
      image = Path(question['image_path']).read_bytes()
    yield replace(example, image=image)


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
