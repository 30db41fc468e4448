"""Optimizers: each is optax's own, and its states lie where parameters lie."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from optax import contrib

from rlhfv_jax import optim, sharding

KINDS = ('adamw', 'adamw_bf16', 'adafactor', 'muon')
RATE = 1e-2


def params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  layer = {'self_attn': {'q_proj': {'kernel': draw(2, 128, 256)}}}
  return {
    'language_model': {'layers': layer, 'norm': {'weight': draw(128)}},
    'vision_tower': {'patch': {'kernel': draw(128, 128)}},
  }


def own(kind, mask):
  """What optax gives to somebody who asks for it by name."""
  if kind == 'adafactor':
    return optax.adafactor(RATE, multiply_by_parameter_scale=False)
  dtype = jnp.bfloat16 if kind == 'adamw_bf16' else None
  return optax.adamw(RATE, mu_dtype=dtype, weight_decay=0.1, mask=mask)


@pytest.mark.parametrize('kind', KINDS[:3])
def test_it_steps_as_optax_does(kind):
  tree, rng = params(), np.random.default_rng(1)
  labels = optim.labels(tree)
  decay = 0.0 if kind == 'adafactor' else 0.1
  tx = optim.optimizer(kind, labels, weight_decay=decay, clip=0)
  theirs = own(kind, jax.tree.map(lambda x: x == 'decayed', labels))
  state, their_state, there = tx.init(tree), theirs.init(tree), tree
  for _ in range(3):
    grads = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree
    )
    direction, state = tx.update(grads, state, tree)
    tree = jax.tree.map(lambda p, d: p - RATE * d, tree, direction)
    updates, their_state = theirs.update(grads, their_state, there)
    there = optax.apply_updates(there, updates)
  for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(there), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_muon_turns_each_layer_by_itself_and_the_rest_goes_by_adam():
  tree, rng = params(), np.random.default_rng(1)
  kernel = lambda tree: tree['language_model']['layers']['self_attn']['q_proj'][
    'kernel'
  ]  # fmt: skip
  tx = optim.optimizer('muon', optim.labels(tree), clip=0)
  one = contrib.muon(-1.0, consistent_rms=0.2)  # of matrices
  rest = optax.nadam(-1.0)
  state = tx.init(tree)
  ones = [one.init({'w': x}) for x in kernel(tree)]
  others = rest.init(tree)
  for _ in range(3):
    grads = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree
    )
    direction, state = tx.update(grads, state, tree)
    by_adam, others = rest.update(grads, others, tree)
    for layer, grad in enumerate(kernel(grads)):
      told, ones[layer] = one.update(
        {'w': grad}, ones[layer], {'w': kernel(tree)[layer]}
      )
      np.testing.assert_allclose(
        kernel(direction)[layer], told['w'], rtol=1e-5, atol=1e-6
      )
    for part in ('norm', 'patch'):
      got, expected = (
        x['language_model' if part == 'norm' else 'vision_tower'][part]
        for x in (direction, by_adam)
      )
      for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  size = np.linalg.svd(kernel(direction), compute_uv=False) / 0.2 / 256**0.5
  assert size.min() > 0.6 and size.max() < 1.3  # nearly orthogonal


@pytest.mark.parametrize(
  'kind, bytes_each',
  [('adamw', 8), ('adamw_bf16', 6), ('adafactor', 0.1), ('muon', 4.9)],
)
def test_states_cost_what_is_promised(kind, bytes_each):
  tree = params()
  labels = optim.labels(tree)
  state = jax.eval_shape(optim.optimizer(kind, labels).init, tree)
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  numbers = sum(x.size for x in jax.tree.leaves(tree))
  assert size <= bytes_each * numbers + 8  # a counter or two
  dtypes = {str(x.dtype) for x in jax.tree.leaves(state)}
  assert ('bfloat16' in dtypes) == (kind == 'adamw_bf16')


@pytest.mark.parametrize('kind', KINDS)
def test_states_lie_as_their_parameters_and_frozen_parts_hold_none(kind):
  tree, mesh = params(), sharding.make_mesh((1, 4, 2))
  labels = optim.labels(tree, (('vision.*', 'frozen'), *optim.RULES))
  trained, _ = optim.split(tree, labels)
  state = jax.eval_shape(optim.optimizer(kind, labels).init, trained)
  place = sharding.specs({'opt_state': state}, mesh)
  by_name = {
    sharding.path_name(path): (leaf, where.spec)
    for (path, leaf), where in zip(
      jax.tree_util.tree_leaves_with_path(state),
      jax.tree.leaves(place), strict=True,
    )
  }  # fmt: skip
  assert not [name for name in by_name if 'vision' in name]
  whole = [spec for x, spec in by_name.values() if x.shape == (2, 128, 256)]
  assert len(whole) == {'adafactor': 0, 'muon': 1}.get(kind, 2)
  assert set(whole) <= {P(None, 'fsdp', 'tensor')}


def test_an_optimizer_that_is_none_is_told_which_there_are():
  with pytest.raises(ValueError, match='adafactor.*adamw.*adamw_bf16.*muon'):
    optim.optimizer('lion', optim.labels(params()))
