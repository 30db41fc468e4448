"""Features that are kept: what the tower sees, once for each picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import batch, model, start

from rlhfv_jax import looks, models, sharding
from rlhfv_jax.batch import Batch

NAMES = ['a', 'b', None, 'a', 'c']
PRINT = {'parameters': 'p'}


class Pictures:
  """Five rows, two of them one picture; it counts who looks."""

  def __init__(self):
    self.asked = []

  def __getitem__(self, index):
    self.asked.append(index)
    rng = np.random.default_rng(ord((NAMES[index] or 'z')[0]))
    return rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)


def look(folder, pictures, **changed):
  told = dict(names=NAMES, folder=folder, fingerprint=PRINT, batch=2,
              mesh=sharding.make_mesh((1, 1, 8)))  # fmt: skip
  return looks.features(model(), start(), pictures, **(told | changed))


def test_what_is_read_is_what_the_tower_sees(tmp_path):
  pictures = Pictures()
  seen = look(tmp_path, pictures)
  images = np.stack([Pictures()[i] for i in range(5)])
  expected = model().apply({'params': start()}, images, method='look')
  found = np.stack([seen[i] for i in range(5)])
  assert found.dtype == seen.dtype
  np.testing.assert_array_equal(
    found.astype(np.float32),
    np.asarray(expected.astype(jnp.bfloat16).astype(jnp.float32)),
  )
  assert sorted(set(pictures.asked)) == [0, 1, 2, 4]  # a is seen once


def test_a_second_call_looks_at_nothing_and_a_third_at_what_is_new(tmp_path):
  before = look(tmp_path, Pictures())
  again = Pictures()
  after = look(tmp_path, again)
  assert again.asked == []
  np.testing.assert_array_equal(before[4], after[4])
  more = Pictures()
  look(tmp_path, more, names=['a', 'b', None, 'a', 'new'])
  assert set(more.asked) == {4}


def test_features_of_another_tower_are_refused(tmp_path):
  look(tmp_path, Pictures())
  with pytest.raises(ValueError, match='parameters is q here and p there'):
    look(tmp_path, Pictures(), fingerprint={'parameters': 'q'})


def test_a_row_with_features_is_the_row_with_its_picture():
  b, params = batch(rows=4), start()
  seen = model().apply({'params': params}, b['images'], method='look')
  rest = {k: v for k, v in b.items() if k != 'images'}
  other = Batch(rest | {'seen': seen}, b.bucket)
  train = lambda b: jax.value_and_grad(
    lambda p: models.token_logps(model(), p, b).sum()
  )(params)
  (value, grads), (plain, expected) = train(other), train(b)
  assert float(value) == pytest.approx(float(plain), rel=1e-6)
  for part in ('language_model', 'mm_projector'):
    for x, y in zip(jax.tree.leaves(grads[part]),
                    jax.tree.leaves(expected[part]), strict=True):  # fmt: skip
      assert float(jnp.linalg.norm(x - y)) <= 1e-5 * float(jnp.linalg.norm(y))
  assert not any(np.any(x) for x in jax.tree.leaves(grads['vision_tower']))
