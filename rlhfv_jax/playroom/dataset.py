"""Rows for training and records for measuring, made from scenes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rlhfv_jax.playroom.captions import (
  asked,
  noisy_caption,
  wordy_caption,
)
from rlhfv_jax.playroom.language import DESCRIBE
from rlhfv_jax.playroom.picture import SIZE, draw, png
from rlhfv_jax.playroom.questions import Question, ask, look_around
from rlhfv_jax.playroom.scene import (
  Scene,
  World,
  rng_of,
  sample,
  truth_record,
)

CAPTION_STREAM, QUESTION_STREAM, LOOK_STREAM = 2, 3, 4


def scenes(
  world: World, split: str, n: int, *, seed: int = 0, start: int = 0
) -> Iterator[Scene]:
  """Scenes start to start + n of a split."""
  for index in range(start, start + n):
    yield sample(world, split, index=index, seed=seed)


def looked_at(world: World) -> World:
  """The world of the pictures that are looked at place by place."""
  return replace(world, usual=world.usual_looked, others=world.others_looked)


def scene_of(id: str, world: World) -> Scene:
  """The scene of a training row, by the row's id."""
  split, seed, index, task = id.split('-')
  seen = looked_at(world) if task == 'look' else world
  return sample(seen, split, index=int(index), seed=int(seed))


def describe_rows(
  world: World,
  split: str,
  n: int,
  *,
  seed: int = 0,
  start: int = 0,
  size: int = SIZE,
) -> list[dict]:
  """Pictures with a request to describe them and a noisy caption."""
  rows = []
  for scene in scenes(world, split, n, seed=seed, start=start):
    request, answer = captioned(scene, world)
    turns = [('user', request)]
    rows.append(_row(scene, 'describe', turns, answer, size))
  return rows


def teacher_rows(
  world: World,
  split: str,
  n: int,
  *,
  seed: int = 0,
  start: int = 0,
  size: int = SIZE,
) -> list[dict]:
  """Pictures as a stronger, wordier model would describe them."""
  rows = []
  for scene in scenes(world, split, n, seed=seed, start=start):
    request, _ = captioned(scene, world)
    turns = [('user', request)]
    rows.append(_row(scene, 'teacher', turns, wordy_caption(scene), size))
  return rows


def captioned(scene: Scene, world: World) -> tuple[str, str]:
  """A request to describe the scene, and its noisy caption."""
  rng = rng_of(scene, CAPTION_STREAM)
  request = DESCRIBE[rng.integers(len(DESCRIBE))]
  return asked(scene, request, world), noisy_caption(scene, rng, world)


def question_rows(
  world: World,
  split: str,
  n: int,
  *,
  seed: int = 0,
  start: int = 0,
  per_row: int = 4,
  size: int = SIZE,
) -> list[dict]:
  """Pictures with several closed questions each, truly answered."""
  return [
    _several(
      scene, ask(scene, rng_of(scene, QUESTION_STREAM), n=per_row), world, size
    )
    for scene in scenes(world, split, n, seed=seed, start=start)
  ]


def look_rows(
  world: World,
  split: str,
  n: int,
  *,
  seed: int = 0,
  start: int = 0,
  size: int = SIZE,
) -> list[dict]:
  """Pictures looked at place by place: what trains the eyes fastest."""
  return [
    _several(scene, look_around(scene, rng_of(scene, LOOK_STREAM)), world, size)
    for scene in scenes(looked_at(world), split, n, seed=seed, start=start)
  ]


def _several(
  scene: Scene, questions: list[Question], world: World, size: int
) -> dict:
  turns = []
  for question in questions:
    turns += [('user', question.text), ('assistant', question.answer)]
  turns[0] = 'user', asked(scene, questions[0].text, world)
  last = questions[-1].answer
  return _row(scene, questions[0].form, turns[:-1], last, size)


def _row(scene: Scene, task: str, turns, answer: str, size: int) -> dict:
  return {
    'id': f'{scene.id}-{task}',
    'image': png(draw(scene, size)),
    'turns': turns,
    'answers': [answer],
  }


def describe_records(
  world: World, split: str, n: int, *, seed: int = 0, start: int = 0
) -> list[dict]:
  """Truth records with the one request that benchmarks make."""
  return [
    {**truth_record(scene), 'question': asked(scene, DESCRIBE[0], world)}
    for scene in scenes(world, split, n, seed=seed, start=start)
  ]


def question_records(
  world: World,
  split: str,
  n: int,
  *,
  seed: int = 0,
  start: int = 0,
  per_scene: int = 4,
) -> list[dict]:
  """Truth records with a closed question each, its type and its answer."""
  records = []
  for scene in scenes(world, split, n, seed=seed, start=start):
    questions = ask(scene, rng_of(scene, QUESTION_STREAM), n=per_scene)
    for turn, question in enumerate(questions):
      records.append(
        {
          **truth_record(scene),
          'id': f'{scene.id}-{turn}',
          'question': asked(scene, question.text, world),
          'answer': question.answer,
          'type': question.form,
        }
      )
  return records


def scenes_table(
  world: World, split: str, n: int, *, seed: int = 0, start: int = 0
) -> list[dict]:
  """The truth of a split, one JSON-able record a scene."""
  return [
    truth_record(s) for s in scenes(world, split, n, seed=seed, start=start)
  ]


def write_records(path: str | Path, records: Iterable[dict]) -> None:
  """One record a line: the file that benchmarks/playroom.py reads."""
  lines = (json.dumps(record) + '\n' for record in records)
  Path(path).write_text(''.join(lines), 'utf-8')
