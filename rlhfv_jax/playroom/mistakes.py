"""Mistakes: descriptions as somebody gives them who errs, drawn by lot.

They cost no answers of a model and no annotator: who knows a scene knows what
is wrong about them. A reward model practises on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlhfv_jax.playroom.claims import CATEGORIES, read
from rlhfv_jax.playroom.language import describe
from rlhfv_jax.playroom.scene import (
  COLOURS,
  KINDS,
  NUMBERS,
  PLACES,
  USUAL,
  Group,
  Scene,
)
from rlhfv_jax.playroom.truth import unsupported

STREAM = 8  # of a scene's randomness
OFTEN = 0.2  # that a group is left out or made up, or a part of it is wrong
SELDOM = 0.05  # that a group is told of again, somewhere else
USUALLY = 0.5  # that what breaks a habit of the room is told as usual
ABSENT = 0.25  # that a usual thing is told of which is not there
AGAIN = 0.4  # that one is which is there, but elsewhere


def mistaken(scene: Scene, rng: np.random.Generator) -> str:
  """The scene with mistakes, in reading order; never silent."""
  told: list[Group] = []
  while not told:
    for group in scene.groups:
      if rng.random() >= OFTEN:
        told += _misseen(group, USUAL[scene.room].get(group.kind), rng)
    told += [
      habit for kind, habit in USUAL[scene.room].items()
      if kind not in scene.by_kind and rng.random() < ABSENT
    ]  # fmt: skip
    if rng.random() < OFTEN:
      made_up = (_any(rng, x) for x in (KINDS, COLOURS, NUMBERS, PLACES))
      told.append(Group(*made_up))
  told.sort(key=lambda group: PLACES.index(group.place))
  return ' '.join(map(describe, told))


def shorter(text: str, rng: np.random.Generator) -> str:
  """A description without one of its sentences, which may be its only one."""
  said = [text[part.start : part.end] for part in read(text)]
  del said[rng.integers(len(said))]
  return ' '.join(said)


def wrong(scene: Scene, text: str) -> np.ndarray:
  """bool[sentences,4]: which sentence makes an unsupported claim of which of
  CATEGORIES."""
  found = unsupported(scene, text)
  return np.array([
    [any(claim.category == category and part.start <= claim.start < part.end
         for claim in found) for category in CATEGORIES]
    for part in read(text)
  ], bool).reshape(-1, len(CATEGORIES))  # fmt: skip


def _misseen(
  group: Group, habit: Group | None, rng: np.random.Generator
) -> list[Group]:
  """A group with each of its parts as it is, as usual, or as it is not; and
  perhaps once more, where it usually is or anywhere."""
  if rng.random() < OFTEN:
    return [replace(group, kind=_any(rng, KINDS))]
  told = [replace(group, **{
    part: _taken(getattr(group, part), getattr(habit, part, None), values, rng)
    for part, values in (
      ('colour', COLOURS), ('number', NUMBERS), ('place', PLACES)
    )
  })]  # fmt: skip
  if habit and habit.place != group.place and rng.random() < AGAIN:
    told.append(replace(told[0], place=habit.place))
  elif rng.random() < SELDOM:
    told.append(replace(told[0], place=_any(rng, PLACES)))
  return told


def _taken(value, usual, values: Sequence, rng: np.random.Generator):
  if usual not in (None, value) and rng.random() < USUALLY:
    return usual
  if rng.random() >= OFTEN:
    return value
  return _any(rng, [other for other in values if other != value])


def _any(rng: np.random.Generator, values: Sequence) -> Any:
  return values[rng.integers(len(values))]
