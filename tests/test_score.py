"""The score head: read in the trunk layout as in rows apart, trained, kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models, optim, sharding
from rlhfv_jax.batch import Batch, Bucket, layout
from rlhfv_jax.checkpoint import load_params, save_params
from rlhfv_jax.models.score import score_of_hidden
from rlhfv_jax.objectives.reward import reward_loss

BUCKET = Bucket(12, 6, 2)
TEXT = dict(vocab_size=32, width=16, mlp=24, depth=2, heads=2, kv_heads=2,
            max_length=32)  # fmt: skip


@functools.cache
def made(dtype='float32'):
  model = models.build(dict(text=TEXT, dtype=dtype))
  rng = np.random.default_rng(0)
  init = functools.partial(models.init, model)
  shapes = jax.eval_shape(init, jax.random.key(0)) | models.score_head(model)
  params = jax.tree_util.tree_map_with_path(
    lambda path, x: rng.normal(
      path[-1].key == 'weight' and 'norm' in str(path), 0.2, x.shape
    ).astype(np.float32),
    shapes,
  )
  return model, params


def pairs(seed=0, rows=3):
  """tokens of a shared trunk and two rests; one row is filler."""
  rng = np.random.default_rng(seed)
  word = lambda n: rng.integers(1, 31, n).astype(np.int32)
  return [
    (word(rng.integers(3, 12)), [word(rng.integers(1, 6)) for _ in range(2)])
    for _ in range(rows)
  ]


def trunks(rows):
  """One row a pair, and a filler behind them."""
  size, (trunk, room, _) = len(rows) + 1, BUCKET
  tokens = np.zeros((size, 24), np.int32)
  lengths, read = np.zeros((size, 3), np.int32), np.zeros((size, 2), np.int32)
  for b, (shared, rests) in enumerate(rows):
    tokens[b, : len(shared)] = shared
    lengths[b] = [len(shared), *map(len, rests)]
    for c, rest in enumerate(rests):
      at = trunk + c * room
      tokens[b, at : at + len(rest)] = rest
      read[b, c] = at + len(rest) - 1
  return Batch(dict(tokens=tokens, lengths=lengths, read=read), BUCKET)


def apart(rows, c):
  """Answer c of each pair as a row of its own."""
  tokens = np.zeros((len(rows), 18), np.int32)
  lengths = np.zeros((len(rows), 2), np.int32)
  for b, (shared, rests) in enumerate(rows):
    path = np.r_[shared, rests[c]]
    tokens[b, : len(path)], lengths[b, 0] = path, len(path)
  return Batch(
    dict(tokens=tokens, lengths=lengths, read=lengths[:, :1] - 1), (18, 0, 1)
  )


@functools.partial(jax.jit, static_argnums=0)
def seen(model, params, batch):
  """Scores, values, and the head on every state: one compilation."""
  states = models.hidden(model, params, batch)
  return (
    models.scores(model, params, batch), models.values(model, params, batch),
    score_of_hidden(params, states),
  )  # fmt: skip


def scores(model, params, batch):
  return seen(model, params, batch)[0]


def test_a_pair_in_one_row_scores_as_two_rows():
  model, params = made()
  rows = pairs()
  together = scores(model, params, trunks(rows))
  for c in (0, 1):
    alone = scores(model, params, apart(rows, c))
    np.testing.assert_allclose(
      together[:-1, c], alone[:, 0], rtol=1e-5, atol=1e-5
    )


@functools.partial(jax.jit, static_argnums=0)
def gradient(model, params, batch):
  def total(params):
    told = models.scores(model, params, batch)
    real = batch['lengths'][:, 0] > 0
    return reward_loss(told, real, centring=0.1)['loss'].total

  return jax.grad(total)(params)


def test_gradients_of_a_pair_are_those_of_two_rows_and_filler_gives_none():
  model, params = made()
  rows = pairs(1)

  def two(params, first, second):
    told = [models.scores(model, params, b) for b in (first, second)]
    told = jnp.concatenate(told, axis=1)
    return reward_loss(told, centring=0.1)['loss'].total

  a = gradient(model, params, trunks(rows))
  b = jax.jit(jax.grad(two))(params, apart(rows, 0), apart(rows, 1))
  for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
    assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y) + 1e-7


def test_a_value_is_that_of_the_state_before_its_token():
  model, params = made()
  batch = trunks(pairs(2))
  _, found, told = map(np.asarray, seen(model, params, batch))
  parent, _, branch = map(np.asarray, layout(batch['lengths'], BUCKET))
  for (b, t), value in np.ndenumerate(found):
    if branch[b, t] < 0 or parent[b, t] < 0:
      assert value == 0
    else:
      assert value == pytest.approx(told[b, parent[b, t]], rel=1e-6)


def test_a_value_knows_nothing_of_its_token():
  model, params = made()
  batch = apart(pairs(3), 0)
  before = seen(model, params, batch)[1]
  last = batch['lengths'][:, 0] - 1
  batch['tokens'][np.arange(len(last)), last] = 7
  np.testing.assert_array_equal(seen(model, params, batch)[1], before)


def test_a_fresh_head_scores_zero_and_learns():
  model, params = made()
  params = params | models.score_head(model)
  batch = trunks(pairs())
  assert (np.asarray(scores(model, params, batch)) == 0).all()
  grad = gradient(model, params, batch)
  assert np.linalg.norm(grad['score_head']['weight']) > 0


def test_the_head_counts_in_float32_in_a_bfloat16_model():
  model, params = made('bfloat16')
  batch = trunks(pairs())
  told = jax.eval_shape(functools.partial(models.scores, model), params, batch)
  assert told.dtype == jnp.float32


def test_mesh_optimizer_and_checkpoint_take_the_head(tmp_path):
  mesh = sharding.make_mesh((1, 2, 4))
  _, params = made()
  places = sharding.specs(params, mesh)
  assert places['score_head']['weight'].spec == jax.P()
  rules = (('score_head.*', 'trained'), ('.*', 'frozen'))
  trained, _ = optim.split(params, optim.labels(params, rules))
  assert len(jax.tree.leaves(trained)) == 2
  params = jax.device_put(params, places)
  save_params(tmp_path / 'params', params)
  back = load_params(tmp_path / 'params', params)
  assert jax.tree.all(jax.tree.map(np.array_equal, back, params))


def test_a_model_that_writes_is_told_so():
  model, params = made()
  plain = {k: v for k, v in params.items() if k != 'score_head'}
  with pytest.raises(ValueError, match='have no score_head'):
    models.scores(model, plain, trunks(pairs()))
