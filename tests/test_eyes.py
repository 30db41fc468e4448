"""Eyes: every token is told what is at its place, and fillers teach nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models
from rlhfv_jax.playroom.dataset import describe_rows, look_rows, scene_of
from rlhfv_jax.playroom.scene import KINDS, PLACES, Group, Scene, World
from rlhfv_jax.stages import eyes

SCENE = Scene(
  'kitchen',
  (
    Group('cup', 'red', 2, 'top left'),
    Group('box', 'blue', 1, 'bottom centre'),
  ),
)


def test_a_token_is_told_what_is_at_its_place():
  seen = eyes.labels(SCENE, 9)
  assert seen[:, 1].tolist() == list(range(9))
  assert seen[0].tolist()[0] == 1 + KINDS.index('cup')
  assert seen[PLACES.index('bottom centre')][3] == 0
  assert (seen[:, 0] > 0).sum() == 2


def test_a_finer_grid_tells_every_token_of_a_place_the_same():
  coarse, fine = eyes.labels(SCENE, 9), eyes.labels(SCENE, 36)
  for j, told in enumerate(fine):
    row, column = divmod(j, 6)
    np.testing.assert_array_equal(told, coarse[row // 2 * 3 + column // 2])


def test_tokens_that_are_no_grid_are_an_error():
  with pytest.raises(ValueError, match='8 image tokens are no square'):
    eyes.labels(SCENE, 8)


def test_a_row_finds_its_scene_by_its_id():
  world = World()
  for rows, index in ((describe_rows, 3), (look_rows, 5)):
    (row,) = rows(world, 'train', 1, seed=2, start=index)
    scene = scene_of(row['id'], world)
    assert (scene.split, scene.seed, scene.index) == ('train', 2, index)
    said = ' '.join([*row['answers'], *(text for _, text in row['turns'])])
    if rows is look_rows:
      told = [g for g in scene.groups if f'at the {g.place}?' in said]
      assert told and all(g.colour in said for g in told)


def test_fillers_teach_nothing_and_pictures_do():
  model = models.build({
    'text': {'vocab_size': 8, 'width': 16, 'mlp': 16, 'depth': 1, 'heads': 2,
             'kv_heads': 2, 'max_length': 16},
    'vision': {'kind': 'beit3', 'image_size': 24, 'patch': 8, 'width': 16,
               'mlp': 16, 'depth': 1, 'heads': 2, 'queries': 9},
    'image_token': 3,
  })  # fmt: skip
  params = eyes.init(models.init(model, jax.random.key(0)), 16)
  rng = np.random.default_rng(0)
  batch = {
    'images': rng.integers(0, 256, (4, 24, 24, 3)).astype(np.uint8),
    'labels': np.stack([eyes.labels(SCENE, 9)] * 4),
    'index': np.array([0, 1, -1, -1], np.int32),
  }
  loss = lambda p, b: eyes.loss(model)(p, b, {})['loss']
  grad = jax.jit(jax.grad(lambda p, b: loss(p, b).total))
  other = batch | {'images': batch['images'].copy()}
  other['images'][2:] = 0
  same = jax.tree.map(
    lambda a, b: bool(jnp.array_equal(a, b)),
    grad(params, batch),
    grad(params, other),
  )
  assert all(jax.tree.leaves(same))
  norm = sum(
    float(jnp.abs(g).sum()) for g in jax.tree.leaves(grad(params, batch))
  )
  assert norm > 0
  assert int(loss(params, batch).count) == 2 * 9
