"""Ways of attention: each gives what the mask gives, and the same gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import HYPER, batch, loss, model, start

from rlhfv_jax import batch as rows
from rlhfv_jax import models, sharding
from rlhfv_jax.models import layers, sight

BUCKET = rows.Bucket(40, 24, 2)
LENGTHS = np.array([[40, 24, 24], [17, 3, 9], [31, 24, 1], [0, 0, 0]], np.int32)


def of(way):
  """A whole model that computes its attention so, and the loss of it."""
  config = dataclasses.replace(model().config, attention=way)
  other = models.build(config)
  return lambda params, b: loss_of(other, params, b)


def loss_of(other, params, b):
  from rlhfv_jax.objectives.preference import preference_loss

  logps = models.token_logps(other, params, b)
  return preference_loss(logps, b['ref_logps'], b['roles'], beta=0.5, gamma=5.0,
                         normalize=True)['loss'].total  # fmt: skip


def pieces(kv_heads):
  """Queries, keys and values of four rows, the last of them empty."""
  rng = np.random.default_rng(0)
  draw = lambda heads: jnp.asarray(
    rng.normal(size=(4, BUCKET.length, heads, 128)), jnp.float32
  )
  _, _, branch = rows.layout(jnp.asarray(LENGTHS), BUCKET)
  return draw(4), draw(kv_heads), draw(kv_heads), branch


@pytest.mark.parametrize('way', ['splash', 'split', 'stretches'])
@pytest.mark.parametrize('kv_heads', [4, 2])
def test_it_gives_what_the_mask_gives_and_its_gradients(
  way, kv_heads, monkeypatch
):
  monkeypatch.setattr(sight, 'STRETCH', 16)
  q, k, v, branch = pieces(kv_heads)
  words = branch >= 0
  weight = np.random.default_rng(1).normal(size=(4, BUCKET.length, 512))
  weight = jnp.asarray(weight, jnp.float32) * words[..., None]

  def total(q, k, v, way):
    out = layers.attention(q, k, v, sight.of(branch, BUCKET, way))
    return (out * weight).sum(), out

  by = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
  (_, out), grads = by(q, k, v, way)
  (_, plain), expected = by(q, k, v, 'xla')
  seen = np.asarray(words)
  np.testing.assert_allclose(out[seen], plain[seen], rtol=1e-5, atol=1e-5)
  for a, b in zip(grads, expected, strict=True):
    assert jnp.isfinite(a).all()
    assert float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) <= 1e-5


@pytest.mark.parametrize('way', ['splash', 'split', 'stretches'])
def test_a_model_has_the_same_loss_and_gradients_either_way(way, monkeypatch):
  monkeypatch.setattr(sight, 'STRETCH', 16)
  params, b = start(), batch(rows=4, empty=1)
  value, grads = jax.jit(jax.value_and_grad(of(way)))(params, b)
  plain, expected = jax.jit(jax.value_and_grad(of('xla')))(params, b)
  assert float(value) == pytest.approx(float(plain), rel=1e-6)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(grads),
    jax.tree.leaves(expected), strict=True,
  ):  # fmt: skip
    scale = float(jnp.linalg.norm(y))
    name = sharding.path_name(path)
    assert float(jnp.linalg.norm(x - y)) <= 1e-5 * max(scale, 1e-6), name


def test_on_a_mesh_each_shard_computes_its_own_rows_and_heads():
  q, k, v, branch = pieces(4)
  told = sight.of(branch, BUCKET, 'splash')
  alone = layers.attention(q, k, v, told)
  mesh = sharding.make_mesh((1, 4, 2))
  with jax.set_mesh(mesh):
    shared = jax.jit(layers.attention)(q, k, v, told)
  np.testing.assert_allclose(shared, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('policy', ['full', 'attention', 'dots'])
def test_what_is_made_again_changes_no_gradient(policy):
  params, b = start(), batch(rows=2)
  other = models.build(dataclasses.replace(model().config, remat=policy))
  grads = jax.jit(jax.grad(lambda p: loss_of(other, p, b)))(params)
  plain = jax.jit(jax.grad(lambda p: loss(p, b, HYPER)['loss'].total))(params)
  for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(plain), strict=True):
    scale = max(float(jnp.linalg.norm(y)), 1e-6)
    assert float(jnp.linalg.norm(x - y)) <= 1e-5 * scale


def test_a_way_that_is_none_is_told_which_there_are():
  with pytest.raises(ValueError, match="'flash' is none of auto, xla"):
    dataclasses.replace(model().config, attention='flash')
