"""Closed questions about a scene, with their short true answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhfv_jax.playroom.language import (
  LOOK,
  NOTHING,
  NUMBER_WORDS,
  phrase,
  question,
)
from rlhfv_jax.playroom.scene import HELD_OUT, KINDS, PLACES, USUAL, Scene

YESNO = 0.5  # the share of questions that ask whether something is there
USUAL_NO = 0.5  # of those answered no, the share about a usual kind


@dataclass(frozen=True)
class Question:
  form: str
  text: str
  answer: str


def ask(
  scene: Scene, rng: np.random.Generator, *, n: int = 4
) -> list[Question]:
  """n different questions; of those for yes or no, half are answered no."""
  asked: list[Question] = []
  while len(asked) < n:
    one = _ask_one(scene, rng)
    if one not in asked:
      asked.append(one)
  return asked


def look_around(
  scene: Scene, rng: np.random.Generator, *, n: int = 5
) -> list[Question]:
  """What is at n places in random order, at most two of them empty if so few
  can be."""
  there = {group.place: phrase(group) for group in scene.groups}
  empty = [place for place in PLACES if place not in there]
  spare = max(2, n - len(there))
  places = [*there, *(empty[i] for i in rng.permutation(len(empty))[:spare])]
  return [
    Question(
      'look', LOOK.format(place=places[i]), there.get(places[i], NOTHING)
    )
    for i in rng.permutation(len(places))[:n]
  ]


def _ask_one(scene: Scene, rng: np.random.Generator) -> Question:
  """About what is there, or whether it is; never how what is absent is."""
  group = scene.groups[rng.integers(len(scene.groups))]
  if rng.random() < YESNO:
    there = rng.random() < 0.5
    kind = group.kind if there else _absent(scene, rng)
    text = question('yesno', kind)
    return Question('yesno', text, 'yes' if there else 'no')
  answers = {
    'colour': group.colour,
    'number': NUMBER_WORDS[group.number],
    'place': group.place,
  }
  form = list(answers)[rng.integers(len(answers))]
  text = question(form, group.kind, group.number)
  return Question(form, text, answers[form])


def _absent(scene: Scene, rng: np.random.Generator) -> str:
  # Nothing but the split `unseen` may speak of what is held out.
  taboo = () if scene.split == 'unseen' else HELD_OUT[scene.room]
  absent = [k for k in KINDS if k not in scene.by_kind and k not in taboo]
  usual = [kind for kind in absent if kind in USUAL[scene.room]]
  pool = usual if usual and rng.random() < USUAL_NO else absent
  return pool[rng.integers(len(pool))]
