"""Pictures in a row: who takes which feature, and who sees none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import (
  IMAGE,
  ids,
  made,
  pairs,
  pictures,
  randoms,
  token_logps,
  trunks,
)

from rlhfv_jax import models
from rlhfv_jax.models import patches


def test_placeholder_k_takes_feature_k_wherever_it_stands():
  model, params = made()
  rng = randoms(7)
  features = jnp.array(rng.normal(size=(1, 4, 32)), jnp.float32)
  tokens = ids(rng, (1, 9))
  slots = [1, 3, 4, 6]
  tokens[0, slots] = IMAGE
  batch = {'tokens': tokens, 'lengths': np.array([[9, 0]], np.int32)}

  def logps(features):
    full = {**batch, 'features': features}
    return models.token_logps(model, params, full)[0]

  effect = jax.jit(jax.jacrev(logps))(features)[:, 0]
  effect = np.linalg.norm(effect, axis=-1)
  for k, slot in enumerate(slots):
    after = (np.arange(9) > slot) & (tokens[0] != IMAGE)
    assert ((effect[:, k] > 0) == after).all()
  # Features follow the order of the placeholders, so order matters.
  logps = jax.jit(logps)
  swapped = logps(features[:, [1, 0, 2, 3]])
  assert np.abs(swapped - logps(features))[7:].min() > 0


def test_a_placeholder_inside_the_vocabulary_is_no_word():
  inside, params = made(image_token=5)
  outside, _ = made()
  rng = randoms(8)
  tokens = ids(rng, (1, 9))
  tokens[tokens == 5] = 6
  features = jnp.array(rng.normal(size=(1, 4, 32)), jnp.float32)
  lengths = np.array([[9, 0]], np.int32)
  tokens[0, 2:5] = IMAGE
  batch = {'tokens': tokens, 'lengths': lengths, 'features': features}
  a = token_logps(outside, params, batch)
  batch['tokens'] = np.where(tokens == IMAGE, 5, tokens)
  b = token_logps(inside, params, batch)
  np.testing.assert_array_equal(a, b)


def test_a_row_without_placeholders_does_not_see_its_picture():
  model, params = made()
  rng = randoms(9)
  rows = [*pairs(rng, 2), *pairs(rng, 2, image=False)]
  a, b = (
    token_logps(model, params, trunks(rows, pictures(rng, 4))) for _ in 'ab'
  )
  assert (a[2:] == b[2:]).all()
  assert (a[:2] != b[:2]).any(1).all()


def test_given_features_stand_in_for_the_picture():
  model, params = made()
  rng = randoms(10)
  batch = trunks(pairs(rng, 4), pictures(rng, 4))
  expected = token_logps(model, params, batch)
  encode = jax.jit(functools.partial(models.features, model))
  batch['features'] = encode(params, batch)
  assert batch['features'].shape == (4, model.config.image_tokens, 32)
  del batch['images']
  logps = token_logps(model, params, batch)
  np.testing.assert_allclose(logps, expected, atol=1e-5)


def test_features_learn_what_the_tokens_that_took_them_are_told():
  model, params = made()
  rng = randoms(9)
  tokens = ids(rng, (4, 9))
  tokens[tokens == IMAGE] = 6
  tokens[0, [1, 3, 4, 6]] = IMAGE  # apart
  tokens[1, 2:4] = IMAGE  # fewer than there are features
  tokens[2, 1:8] = IMAGE  # more
  features = jnp.array(rng.normal(size=(4, 4, 32)), jnp.float32)
  told = jnp.array(rng.normal(size=(4, 9, 32)), jnp.float32)

  def ours(features):
    x = model.apply({'params': params}, tokens, features, method='embed')
    return (x * told).sum()

  def plain(features):
    share = 0
    for row in range(4):
      slots = np.flatnonzero(tokens[row] == IMAGE)[:4]
      share += sum(features[row, k] @ told[row, t] for k, t in enumerate(slots))
    return share

  expected = jax.grad(plain)(features)
  np.testing.assert_array_equal(jax.grad(ours)(features), expected)
  assert not np.any(expected[3]) and not np.any(expected[1, 2:])


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('way', [patches.cut, patches.picked])
def test_patches_are_the_picture_cut_up(way, dtype):
  rng = randoms(10)
  pixels = jnp.array(rng.normal(size=(2, 8, 12, 3)), dtype)
  got = way(pixels, 4)
  for patch in range(6):
    y, x = 4 * (patch // 3), 4 * (patch % 3)
    flat = pixels[:, y : y + 4, x : x + 4].reshape(2, -1)
    np.testing.assert_array_equal(got[:, patch], flat)
