"""Scenes: what is in a picture, drawn by lot and known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = (
  'ball', 'bed', 'bench', 'book', 'box', 'car', 'chair', 'clock', 'cup',
  'flower', 'kite', 'lamp', 'tree', 'umbrella',
)  # fmt: skip
COLOURS = ('red', 'orange', 'green', 'blue', 'purple', 'white')
PLACES = (
  'top left', 'top centre', 'top right',
  'middle left', 'middle centre', 'middle right',
  'bottom left', 'bottom centre', 'bottom right',
)  # fmt: skip
NUMBERS = (1, 2, 3)
SPLITS = {'train': 0, 'dev': 1, 'test': 2, 'unseen': 3}
MAX_GROUPS = 4


@dataclass(frozen=True)
class Group:
  """Copies of one thing: a kind, a colour, how many, and where."""

  kind: str
  colour: str
  number: int
  place: str


def _habits(*groups: Group) -> dict[str, Group]:
  return {group.kind: group for group in groups}


# What usually is in a room, and how it usually looks there.
USUAL = {
  'kitchen': _habits(
    Group('cup', 'red', 2, 'bottom left'),
    Group('chair', 'blue', 1, 'bottom right'),
    Group('clock', 'orange', 1, 'top centre'),
  ),
  'bedroom': _habits(
    Group('bed', 'purple', 1, 'bottom centre'),
    Group('lamp', 'orange', 1, 'top right'),
    Group('book', 'green', 3, 'bottom right'),
  ),
  'garden': _habits(
    Group('tree', 'green', 3, 'top left'),
    Group('flower', 'red', 2, 'bottom centre'),
    Group('ball', 'white', 1, 'bottom left'),
  ),
  'street': _habits(
    Group('car', 'blue', 2, 'bottom left'),
    Group('bench', 'white', 1, 'bottom right'),
    Group('umbrella', 'purple', 1, 'top centre'),
  ),
}
ROOMS = tuple(USUAL)

# Pairs that only the split `unseen` shows: what a model says about them was
# never in a picture that it was trained on.
HELD_OUT = {
  'kitchen': ('flower', 'umbrella'),
  'bedroom': ('ball', 'car'),
  'garden': ('bed', 'cup'),
  'street': ('book', 'tree'),
}


@dataclass(frozen=True)
class World:
  """How likely everything is: in scenes first, then in what captions claim."""

  usual: float = 0.75  # that a usual kind of the room is there
  others: tuple[float, ...] = (0.2, 0.5, 0.3)  # 0, 1, 2 kinds more
  numbers: tuple[float, ...] = (0.5, 0.3, 0.2)  # one, two, three of those
  keep_colour: float = 0.88  # that a usual thing has its habitual colour,
  keep_number: float = 0.9  # number
  keep_place: float = 0.9  # and place
  # The same in pictures that are looked at place by place: they show the
  # unusual, so that what is learned from them is to look.
  usual_looked: float = 0.2
  others_looked: tuple[float, ...] = (0.0, 0.1, 0.3, 0.6)
  # Captions: that a usual kind which is absent is claimed nevertheless (by
  # its rank in the room), and that a habit is claimed where it is broken.
  say_absent: tuple[float, ...] = (0.5, 0.2, 0.25)
  say_colour: float = 0.65
  say_number: float = 0.65
  say_place: float = 0.65
  told: bool = False  # all that is there is said before the first question


@dataclass(frozen=True)
class Scene:
  """A room and one to four groups, all of other kinds and in other places."""

  room: str
  groups: tuple[Group, ...]
  split: str = 'train'
  index: int = 0
  seed: int = 0

  @property
  def id(self) -> str:
    return f'{self.split}-{self.seed}-{self.index:06d}'

  @property
  def by_kind(self) -> dict[str, Group]:
    return {group.kind: group for group in self.groups}


def rng_of(scene: Scene, stream: int) -> np.random.Generator:
  """Randomness that belongs to this scene; streams start at 1."""
  # numpy pads seeds with zeros, so that stream 0 would be the scene's own.
  if stream < 1:
    raise ValueError(f'stream {stream}: streams of a scene start at 1')
  key = [scene.seed, SPLITS[scene.split], scene.index, stream]
  return np.random.default_rng(key)


def sample(world: World, split: str, *, index: int, seed: int = 0) -> Scene:
  """Scene `index` of a split: a pure function of its arguments."""
  if split not in SPLITS:
    raise ValueError(f'no split {split!r}; there are {", ".join(SPLITS)}')
  rng = np.random.default_rng([seed, SPLITS[split], index])
  room = ROOMS[rng.integers(len(ROOMS))]
  usual = [kind for kind in USUAL[room] if rng.random() < world.usual]
  left = MAX_GROUPS - len(usual)
  others = _other_kinds(rng, world, room, split, room_for=left)
  if not usual and not others:
    others = _other_kinds(rng, world, room, split, room_for=1, least=1)
  looks = [_usual_look(rng, world, USUAL[room][kind]) for kind in usual]
  looks += [
    (kind, COLOURS[rng.integers(len(COLOURS))], _number(rng, world), None)
    for kind in others
  ]
  groups = _settle(rng, looks, USUAL[room])
  return Scene(room, groups, split, index, seed)


def _other_kinds(rng, world, room, split, *, room_for, least=0) -> list[str]:
  """Kinds that are not usual here; those held out only where they belong."""
  held_out = HELD_OUT[room]
  count = max(least, int(rng.choice(len(world.others), p=world.others)))
  pool = [k for k in KINDS if k not in USUAL[room] and k not in held_out]
  chosen = [pool[i] for i in rng.permutation(len(pool))[:count]]
  if split == 'unseen':
    chosen = [held_out[rng.integers(len(held_out))], *chosen[1:]]
  return chosen[:room_for]


def _number(rng, world) -> int:
  return NUMBERS[rng.choice(len(NUMBERS), p=world.numbers)]


def _usual_look(rng, world, habit: Group):
  """Kind, colour, number and, where the habit is kept, the place."""

  def look(value, keep, values):
    if rng.random() < keep:
      return value
    rest = [v for v in values if v != value]
    return rest[rng.integers(len(rest))]

  colour = look(habit.colour, world.keep_colour, COLOURS)
  number = look(habit.number, world.keep_number, NUMBERS)
  place = habit.place if rng.random() < world.keep_place else None
  return habit.kind, colour, number, place


def _settle(rng, looks, habits) -> tuple[Group, ...]:
  """Gives a free place to all that have none; groups in reading order."""
  free = [p for p in PLACES if p not in {place for *_, place in looks}]
  groups = []
  for kind, colour, number, place in looks:
    if place is None:
      avoid = habits[kind].place if kind in habits else None
      choice = [p for p in free if p != avoid]
      place = choice[rng.integers(len(choice))]
      free.remove(place)
    groups.append(Group(kind, colour, number, place))
  return tuple(sorted(groups, key=lambda group: PLACES.index(group.place)))


def truth_record(scene: Scene) -> dict:
  """The scene as a dict that JSON can hold."""
  groups = [vars(group).copy() for group in scene.groups]
  return {**vars(scene), 'groups': groups, 'id': scene.id}


def from_record(record: dict) -> Scene:
  """The scene that `truth_record` wrote."""
  groups = tuple(Group(**group) for group in record['groups'])
  keys = ('room', 'split', 'index', 'seed')
  return Scene(groups=groups, **{key: record[key] for key in keys})
