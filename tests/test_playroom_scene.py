"""Scenes and pictures: lawful, repeatable, and there for the eye to see."""

import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.playroom import census, dataset, sheet
from rlhfv_jax.playroom.picture import SIZE, crop, draw, png
from rlhfv_jax.playroom.scene import (
  COLOURS,
  HELD_OUT,
  KINDS,
  NUMBERS,
  PLACES,
  ROOMS,
  SPLITS,
  USUAL,
  World,
  from_record,
  rng_of,
  sample,
  truth_record,
)
from rlhfv_jax.playroom.sprites import RGB, sprite

WORLD = World()
scenes = st.builds(
  lambda split, index: sample(WORLD, split, index=index),
  st.sampled_from(list(SPLITS)),
  st.integers(0, 10**6),
)
fast = settings(max_examples=60, deadline=None)


def many(split, n=600, world=WORLD):
  return list(dataset.scenes(world, split, n))


@fast
@given(scenes)
def test_kinds_and_places_are_distinct(scene):
  assert scene.room in ROOMS
  assert 1 <= len(scene.groups) <= 4
  for part, values in (('kind', KINDS), ('place', PLACES)):
    seen = [getattr(group, part) for group in scene.groups]
    assert len(set(seen)) == len(seen) and set(seen) <= set(values)
  for group in scene.groups:
    assert group.colour in COLOURS and group.number in NUMBERS


@fast
@given(scenes)
def test_a_scene_is_a_function_of_its_seed_split_and_index(scene):
  again = sample(WORLD, scene.split, index=scene.index, seed=scene.seed)
  assert scene == again
  assert from_record(json.loads(json.dumps(truth_record(scene)))) == scene


def test_splits_and_seeds_give_other_scenes():
  one = [s.groups for s in many('train', 40)]
  assert one != [s.groups for s in many('test', 40)]
  other_seed = dataset.scenes(WORLD, 'train', 40, seed=1)
  assert one != [s.groups for s in other_seed]
  later = dataset.scenes(WORLD, 'train', 10, start=30)
  assert one[30:] == [s.groups for s in later]


@pytest.mark.parametrize('split', ['train', 'dev', 'test'])
def test_held_out_pairs_are_in_no_other_split(split):
  assert not any(set(s.by_kind) & set(HELD_OUT[s.room]) for s in many(split))


def test_every_unseen_scene_has_a_held_out_pair():
  unseen = many('unseen')
  assert all(set(s.by_kind) & set(HELD_OUT[s.room]) for s in unseen)
  pairs = {(s.room, k) for s in unseen for k in s.by_kind}
  assert pairs >= {(room, k) for room in ROOMS for k in HELD_OUT[room]}


def test_what_is_held_out_of_a_room_is_known_from_others():
  seen = {(s.room, kind) for s in many('train', 1500) for kind in s.by_kind}
  for room in ROOMS:
    assert not set(HELD_OUT[room]) & set(USUAL[room])
    for kind in HELD_OUT[room]:
      assert any((other, kind) in seen for other in ROOMS if other != room)


def test_the_worlds_dials_turn():
  scenes = many('train', 1500)
  usual = [(s, kind) for s in scenes for kind in USUAL[s.room]]
  there = [s.by_kind[k] for s, k in usual if k in s.by_kind]
  habits = {k: h for room in ROOMS for k, h in USUAL[room].items()}
  assert len(there) / len(usual) == pytest.approx(WORLD.usual, abs=0.05)
  for part in ('colour', 'number', 'place'):
    kept = np.mean(
      [
        getattr(group, part) == getattr(habits[group.kind], part)
        for group in there
      ]
    )
    assert kept == pytest.approx(getattr(WORLD, f'keep_{part}'), abs=0.03)


def test_habits_can_always_or_never_be_kept():
  keep = ('keep_colour', 'keep_number', 'keep_place')
  for value in (0.0, 1.0):
    world = replace(WORLD, usual=1.0, **dict.fromkeys(keep, value))
    for scene in many('dev', 50, world):
      for kind, habit in USUAL[scene.room].items():
        group = scene.by_kind[kind]
        for part in ('colour', 'number', 'place'):
          same = getattr(group, part) == getattr(habit, part)
          assert same == bool(value)


def test_unknown_splits_and_stream_zero_are_refused():
  with pytest.raises(ValueError, match='holdout.*train'):
    sample(WORLD, 'holdout', index=0)
  with pytest.raises(ValueError, match='stream 0'):
    rng_of(sample(WORLD, 'train', index=0), 0)


@settings(max_examples=40, deadline=None)
@given(scenes, st.data())
def test_a_group_shows_in_its_cell_and_nowhere_else(scene, data):
  at = data.draw(st.integers(0, len(scene.groups) - 1))
  group = scene.groups[at]
  other = data.draw(st.sampled_from([c for c in COLOURS if c != group.colour]))
  groups = list(scene.groups)
  groups[at] = replace(group, colour=other)
  a = np.asarray(draw(scene), np.int32)
  b = np.asarray(draw(replace(scene, groups=tuple(groups))), np.int32)
  y, x = np.nonzero(abs(a - b).max(-1) > 40)
  row, column = divmod(PLACES.index(group.place), 3)
  slack = SIZE // 16
  assert (abs(x - (column + 0.5) * SIZE / 3) <= SIZE / 6 + slack).all()
  assert (abs(y - (row + 0.5) * SIZE / 3) <= SIZE / 6 + slack).all()
  assert len(x) >= 50  # of the 1024 pixels of a cell


@settings(max_examples=10, deadline=None)
@given(scenes, st.sampled_from([64, 96, 128]))
def test_pictures_are_repeatable_in_any_size(scene, size):
  image = draw(scene, size)
  assert image.mode == 'RGB' and image.size == (size, size)
  assert png(image) == png(draw(scene, size))
  restored = np.asarray(Image.open(io.BytesIO(png(image))))
  assert (restored == np.asarray(image)).all()


def test_same_content_looks_different_each_time():
  scene = sample(WORLD, 'train', index=0)
  other = replace(scene, index=1)
  a, b = (np.asarray(draw(s), np.float32) for s in (scene, other))
  assert abs(a - b).mean() > 5


def test_silhouettes_differ_at_the_smallest_size():
  seen = []
  for kind in KINDS:
    wall = Image.new('RGB', (15, 15), (180, 180, 180))
    shape = sprite(kind, 'red', size=15)
    wall.paste(shape, mask=shape)
    seen.append(np.asarray(wall, float))
  for (i, a), (j, b) in combinations(enumerate(seen), 2):
    assert abs(a - b).mean() > 25, (KINDS[i], KINDS[j])


def test_colours_are_well_apart_in_any_light():
  """No light of a picture turns a colour into another one."""
  rgb = {name: np.array(value) for name, value in RGB.items()}
  for a, b in combinations(COLOURS, 2):
    for light in np.linspace(0.7, 1.25, 12):
      gap = np.linalg.norm((rgb[a] * light).clip(0, 255) - rgb[b])
      assert gap > 60, (a, b, light)


def test_a_crop_is_a_part_of_the_picture():
  image = draw(sample(WORLD, 'train', index=3))
  rng = np.random.default_rng(0)
  parts = [crop(image, rng, least=0.5) for _ in range(5)]
  assert all(part.size == image.size for part in parts)
  assert len({part.tobytes() for part in parts}) == 5
  whole = crop(image, rng, least=1.0)
  assert whole.tobytes() == image.tobytes()


def test_rows_hold_pictures_and_turns_that_end_with_the_user():
  described = dataset.describe_rows(WORLD, 'train', 5)
  asked = dataset.question_rows(WORLD, 'train', 5, per_row=3)
  for row in described + asked:
    assert Image.open(io.BytesIO(row['image'])).size == (SIZE, SIZE)
    roles = [role for role, _ in row['turns']]
    assert roles == (['user', 'assistant'] * 3)[: len(roles)]
    assert roles[-1] == 'user' and len(row['answers']) == 1
  assert {len(row['turns']) for row in asked} == {5}
  assert len({row['id'] for row in described + asked}) == 10


def test_the_contact_sheet_is_a_picture(tmp_path):
  path = tmp_path / 'sheet.png'
  sheet.contact_sheet(path, columns=2, rows=1)
  assert Image.open(path).width > 2 * SIZE


def test_the_numbers_of_the_docs_are_those_of_the_world():
  docs = Path(__file__).parents[1] / 'docs/design.md'
  assert census.table() in docs.read_text()
