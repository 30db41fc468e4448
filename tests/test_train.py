"""The loop: exact accumulation, frozen parts, and the same run on any mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models, optim, sharding, train
from rlhfv_jax.batch import Batch
from rlhfv_jax.objectives.preference import preference_loss

AUTO = jax.sharding.AxisType.Auto
BUCKET = (20, 8, 2)
ALL = (('.*', 'trained'),)
HYPER = {'beta': 0.5, 'gamma': 5.0, 'learning_rate': 1e-2}


@functools.cache
def model():
  return models.build({
    'text': {'vocab_size': 64, 'width': 16, 'mlp': 32, 'depth': 2, 'heads': 4,
             'kv_heads': 4, 'max_length': 64},
    'vision': {'kind': 'beit3', 'image_size': 16, 'patch': 8, 'width': 16,
               'mlp': 32, 'depth': 2, 'heads': 4, 'queries': 4},
    'image_token': 3,
  })  # fmt: skip


def batch(rows=16, seed=0, empty=0):
  """Pairs with ragged lengths; the last `empty` rows count nothing."""
  rng = np.random.default_rng(seed)
  trunk, rest, _ = BUCKET
  length = trunk + 2 * rest
  tokens = rng.integers(4, 64, (rows, length)).astype(np.int32)
  tokens[:, 1:5] = 3
  lengths = np.stack([rng.integers(9, trunk + 1, rows),
                      *rng.integers(1, rest + 1, (2, rows))], 1)  # fmt: skip
  roles = np.zeros((rows, 2, length), np.int8)
  for b in range(rows - empty):
    roles[b, :, 7 : lengths[b, 0]] = 1
    for c in range(2):
      at = trunk + c * rest
      roles[b, c, at : at + lengths[b, 1 + c]] = rng.integers(
        1, 3, lengths[b, 1 + c]
      )
  return Batch({
    'tokens': tokens, 'lengths': lengths.astype(np.int32), 'roles': roles,
    'images': rng.integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8),
    'index': np.arange(rows, dtype=np.int32),
    'ref_logps': -rng.random((rows, length)).astype(np.float32),
  }, BUCKET)  # fmt: skip


def loss(params, batch, hyper):
  logps = models.token_logps(model(), params, batch)
  return preference_loss(logps, batch['ref_logps'], batch['roles'],
                         beta=hyper['beta'], gamma=hyper['gamma'],
                         normalize=True)  # fmt: skip


@functools.cache
def program(shape, micro, rules):
  """Mesh, fresh state maker and compiled step, once for all tests."""
  devices = jax.devices()[: int(np.prod(shape))]
  mesh = jax.make_mesh(
    shape, sharding.AXES, devices=devices, axis_types=(AUTO,) * 3
  )
  place = sharding.specs(start(), mesh)
  labels = optim.labels(start(), rules)
  tx = optim.optimizer('adamw', labels, weight_decay=0.1)
  step = train.make_train_step(
    loss, tx, labels=labels, mesh=mesh, micro=micro,
    schedule=optim.schedule('cosine', steps=10, warmup=0.1),
  )  # fmt: skip

  def fresh():
    params = jax.device_put(start(), place)
    return train.init_state(params, tx, labels, mesh)

  return mesh, fresh, step


@functools.cache
def start():
  return jax.device_get(models.init(model(), jax.random.key(0)))


def run(shape=(1, 1, 1), *, micro=1, rules=optim.RULES, batches=()):
  """Steps over batches: the last state, and the stats of each step."""
  mesh, fresh, step = program(shape, micro, rules)
  with jax.set_mesh(mesh):
    state, hyper = fresh(), sharding.scalars(HYPER, mesh)
    found = []
    for b in batches:
      state, stats = step(state, sharding.batch_to_devices(b, mesh), hyper)
      found.append({k: float(v.value()) for k, v in stats.items()})
    return jax.device_get(state), found


def close(a, b, tolerance):
  """Worst relative difference of any leaf."""
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    norm = np.linalg.norm(y) or 1.0
    assert np.linalg.norm(np.asarray(x, float) - y) / norm <= tolerance


def test_micro_batches_change_the_memory_and_nothing_else():
  # The last four rows count nothing: a mean of means would be wrong here.
  data = [batch(empty=4)]
  one, (stats_one,) = run(batches=data)
  four, (stats_four,) = run(batches=data, micro=4)
  # The first moments are the gradients; Adam's quotient would magnify noise.
  close(four.opt_state[1].mu, one.opt_state[1].mu, 1e-5)
  assert stats_one == pytest.approx(stats_four, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('mesh', [(8, 1, 1), (4, 2, 1), (2, 1, 4), (1, 2, 4)])
def test_every_mesh_gives_the_losses_of_one_device(mesh):
  data = [batch(seed=s) for s in range(3)]
  _, alone = run(batches=data)
  _, shared = run(mesh, batches=data)
  for a, b in zip(alone, shared, strict=True):
    assert b['loss'] == pytest.approx(a['loss'], rel=2e-5)
    assert b['grad_norm'] == pytest.approx(a['grad_norm'], rel=1e-3)


def test_frozen_parameters_stay_to_the_bit_and_hold_no_moments():
  rules = (('.*vision_tower.*', 'frozen'), *optim.RULES)
  start, _ = run(rules=rules)
  end, _ = run(rules=rules, batches=[batch()])
  for name in start.params:
    same = jax.tree.map(np.array_equal, start.params[name], end.params[name])
    assert all(jax.tree.leaves(same)) == (name == 'vision_tower'), name
  names = [sharding.path_name(p) for p, _ in
           jax.tree_util.tree_flatten_with_path(end.opt_state)[0]]  # fmt: skip
  assert names
  assert not [n for n in names if 'vision_tower' in n]


def test_a_batch_that_counts_nothing_moves_nothing():
  empty = batch(rows=8, empty=8)
  start, _ = run(rules=ALL)
  end, stats = run(rules=ALL, batches=[empty])
  assert stats[0]['loss'] == 0
  assert stats[0]['grad_norm'] == 0
  close(end.params, start.params, 0.0)


def test_the_first_bad_step_halts_the_state():
  bad = batch(seed=1)
  bad['ref_logps'][3] = np.nan
  one, _ = run(batches=[batch(seed=0)])
  end, stats = run(batches=[batch(seed=0), bad, batch(seed=2)])
  assert np.isnan(stats[1]['loss'])
  assert end.halted
  assert end.step == 1
  close(end.params, one.params, 0.0)


def test_the_first_loss_is_ln_2_where_the_reference_is_the_policy():
  b = batch(empty=2)
  params = models.init(model(), jax.random.key(0))
  b['ref_logps'] = models.token_logps(model(), params, b)
  value = loss(params, b, HYPER)['loss'].value()
  assert float(value) == pytest.approx(np.log(2), abs=1e-6)


def test_weight_decay_pulls_kernels_and_leaves_norms():
  params = {'a': {'kernel': jnp.ones((2, 2))}, 'norm': {'weight': jnp.ones(2)}}
  labels = optim.labels(params)
  tx = optim.optimizer('adamw', labels, weight_decay=0.5)
  zero = jax.tree.map(jnp.zeros_like, params)
  moved, _ = tx.update(zero, tx.init(params), params)
  np.testing.assert_array_equal(moved['a']['kernel'], np.full((2, 2), 0.5))
  np.testing.assert_array_equal(moved['norm']['weight'], np.zeros(2))


def test_clipping_looks_at_what_is_trained_alone():
  rules = (('.*vision_tower.*', 'frozen'), ('.*', 'trained'))
  _, stats = run(rules=rules, batches=[batch()])
  _, whole = run(rules=ALL, batches=[batch()])
  assert stats[0]['grad_norm'] < whole[0]['grad_norm']


@pytest.mark.parametrize('kind', ['cosine', 'linear', 'constant'])
def test_schedules_rise_then_fall(kind):
  factor = optim.schedule(kind, steps=100, warmup=0.1)
  values = np.array([float(factor(jnp.int32(s))) for s in range(100)])
  assert values[0] == pytest.approx(0.1)
  assert values[9] == pytest.approx(1.0)
  assert (np.diff(values[:10]) > 0).all()
  assert (np.diff(values[10:]) <= 1e-7).all()
  assert kind == 'constant' or values[-1] < 0.02


def test_rules_cover_everything_or_say_what_is_left():
  with pytest.raises(ValueError, match='none matches a/kernel'):
    optim.labels({'a': {'kernel': jnp.ones(1)}}, [('b.*', 'trained')])
  with pytest.raises(ValueError, match="'train' is none of"):
    optim.labels({'a': jnp.ones(1)}, [('.*', 'train')])


def test_a_mesh_that_does_not_fit_says_both_numbers():
  with pytest.raises(ValueError, match='takes 3 devices and 8 are here'):
    sharding.make_mesh((3, 1, 1))
  with pytest.raises(ValueError, match='at most one of them -1'):
    sharding.make_mesh((-1, -1, 1))
  mesh = sharding.make_mesh((2, -1, 2))
  assert dict(mesh.shape) == {'data': 2, 'fsdp': 2, 'tensor': 2}
  with pytest.raises(ValueError, match='make it a multiple of 8'):
    sharding.check_batch(12, mesh, micro=2)
  with pytest.raises(ValueError, match='6 does not divide'):
    sharding.specs({'lm_head': {'kernel': jnp.ones((6, 8))}},
                   sharding.make_mesh((1, 4, 2)))  # fmt: skip
  with pytest.raises(ValueError, match='no sharding rule matches strange'):
    sharding.specs({'strange': jnp.ones(2)}, mesh)
