"""Captions: true ones, and ones that say what usually is in such a room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlhfv_jax.playroom.language import NOTHING, describe
from rlhfv_jax.playroom.scene import PLACES, USUAL, Group, Scene, World

WORDY = 5  # sentences, whatever there is


def true_caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
  """All that is there, in reading order, or in a random one."""
  return _tell(list(scene.groups), rng)


def asked(scene: Scene, request: str, world: World) -> str:
  """The request, after the scene in words where the world is told."""
  return f'{true_caption(scene)} {request}' if world.told else request


def wordy_caption(scene: Scene) -> str:
  """All that is there, and what is not: a sentence each for five places.

  As somebody tells it who sees better and says more than the model.
  """
  there = {group.place: describe(group) for group in scene.groups}
  empty = [place for place in PLACES if place not in there]
  told = there | {
    place: f'at the {place} there is {NOTHING}.'
    for place in empty[: WORDY - len(there)]
  }
  return ' '.join(told[place] for place in PLACES if place in told)


def noisy_caption(scene: Scene, rng: np.random.Generator, world: World) -> str:
  """What is there and what usually would be, told as one.

  All of its mistakes come from the room's habits and none from the eyes, as
  with captions that people write from what they expect.
  """
  habits = USUAL[scene.room]
  groups = [
    _as_usual(group, habits[group.kind], rng, world)
    if group.kind in habits
    else group
    for group in scene.groups
  ]
  for (kind, habit), chance in zip(
    habits.items(), world.say_absent, strict=True
  ):
    if kind not in scene.by_kind and rng.random() < chance:
      groups.append(habit)
  return _tell(groups, None)


def _as_usual(
  group: Group, habit: Group, rng: np.random.Generator, world: World
) -> Group:
  """The group with its broken habits mended, each by its own chance."""
  colour, number, place = rng.random(3) < (
    world.say_colour,
    world.say_number,
    world.say_place,
  )
  return replace(
    group,
    colour=habit.colour if colour else group.colour,
    number=habit.number if number else group.number,
    place=habit.place if place else group.place,
  )


def _tell(groups: list[Group], rng: np.random.Generator | None) -> str:
  """In reading order of the places, or in a random one."""
  groups = sorted(groups, key=lambda group: PLACES.index(group.place))
  order = range(len(groups)) if rng is None else rng.permutation(len(groups))
  return ' '.join(describe(groups[i]) for i in order)
