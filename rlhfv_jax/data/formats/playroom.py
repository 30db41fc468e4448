"""The playroom as a source: its pictures are drawn when they are asked for.

playroom:SPLIT[/TASK[/N]] with the splits of playroom/scene.py and the tasks
describe    a noisy caption to learn, as the base model is trained on
teacher     all that is there and some of what is not, truly told
questions   closed questions, truly answered
looks       what is at each place
pairs       a wrong caption, and the same with only what is wrong corrected
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rlhfv_jax.data.example import Example, from_dict
from rlhfv_jax.data.storage.lazy import Source
from rlhfv_jax.playroom import annotator, dataset
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import SPLITS, World, rng_of, sample
from rlhfv_jax.playroom.truth import unsupported

ROWS = {
  'describe': dataset.describe_rows,
  'teacher': dataset.teacher_rows,
  'questions': dataset.question_rows,
  'looks': dataset.look_rows,
}
TASKS = (*ROWS, 'pairs')
COUNT = 1000


class Scenes(Sequence):
  """Numbers of scenes, which is all that a picture is made from."""

  def __init__(self, split: str, numbers: Sequence[int]):
    self.split, self.numbers = split, numbers

  def __repr__(self) -> str:
    return f'Scenes({self.split}, {len(self)})'

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, index: int) -> int:
    return int(self.numbers[index])

  def files(self) -> list[Path]:
    return []

  def where(self, index: int) -> str:
    return f'playroom {self.split}, scene {self.numbers[index]}'


def read(
  path: str,
  *,
  seed: int = 0,
  start: int = 0,
  world: World = World(),  # noqa: B008  (frozen)
) -> Source:
  """Rows of scenes `start` and on; pairs skip the captions that are right."""
  split, _, rest = str(path).partition('/')
  task, _, count = rest.partition('/')
  task = task or 'describe'
  if split not in SPLITS or task not in TASKS or not (count or '1').isdigit():
    raise ValueError(
      f'playroom:{path}: say playroom:SPLIT/TASK/N with a split of '
      f'{", ".join(SPLITS)} and a task of {", ".join(TASKS)}'
    )
  n = int(count or COUNT)
  if task == 'pairs':
    numbers = _wrong(world, split, n, seed=seed, start=start)
    make = pair
  else:
    numbers = range(start, start + n)
    make = functools.partial(plain, rows=ROWS[task])
  return Source(
    Scenes(split, numbers),
    functools.partial(make, split=split, seed=seed, world=world),
  )


def plain(
  number: int,
  index: int,
  *,
  rows: Callable,
  split: str,
  seed: int,
  world: World,
) -> Example:
  (row,) = rows(world, split, 1, seed=seed, start=number)
  return from_dict(row | {'origin': 'playroom'})


def pair(
  number: int, index: int, *, split: str, seed: int, world: World
) -> Example:
  scene = sample(world, split, index=number, seed=seed)
  request, said = dataset.captioned(scene, world)
  mended = annotator.correct(scene, said)
  told = annotator.facts(scene, rng_of(scene, annotator.FACT_STREAM))
  return Example(
    id=f'{scene.id}-pair',
    image=png(draw(scene)),
    turns=(('user', request),),
    answers=(mended.text, said),
    spans=(mended.chosen_spans, mended.rejected_spans),
    origin='playroom',
    annotator='playroom',
    facts=told,
  )


def _wrong(
  world: World, split: str, n: int, *, seed: int, start: int
) -> np.ndarray:
  """The first n scenes whose captions say what is not there."""
  numbers, at = [], start
  while len(numbers) < n:
    scene = sample(world, split, index=at, seed=seed)
    if unsupported(scene, dataset.captioned(scene, world)[1]):
      numbers.append(at)
    at += 1
  return np.array(numbers, np.int64)
