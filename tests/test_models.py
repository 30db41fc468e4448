"""Batches to log-probabilities: who sees whom in a trunk and its branches."""

import functools

import jax
import numpy as np

from rlhfv_jax import models
from rlhfv_jax.batch import Batch

V, IMAGE = 67, -200
TEXT = dict(
  vocab_size=V, width=32, mlp=48, depth=2, heads=4, kv_heads=2, max_length=64,
  rope_factor=4.0, rope_original=64,
)  # fmt: skip
# No layer of this tower is built: patches and positions are picture enough.
VISION = dict(
  kind='clip', image_size=16, patch=8, width=24, mlp=32, depth=1, heads=4
)
SEES = dict(text=TEXT, vision=VISION, image_token=IMAGE)
READS = dict(text=TEXT)


BUCKET = (18, 7, 2)  # one shape for most tests: compiling is what takes time


def scattered(model, spread):
  """Norms near 1, the rest near 0: `init` takes seconds to compile."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  return jax.tree_util.tree_map_with_path(
    lambda path, x: np.float32(
      rng.normal(path[-1].key == 'weight', spread, x.shape)
    ),
    shapes,
  )


@functools.cache
def made(config='sees', **changes):
  """A model and parameters large enough that every path shows."""
  base = SEES if config == 'sees' else READS
  params = scattered(models.build(base), 0.08)
  return models.build({**base, **changes}), params


@functools.partial(jax.jit, static_argnums=0)
def token_logps(model, params, batch):
  return models.token_logps(model, params, batch, chunk=5)


@functools.partial(jax.jit, static_argnums=0)
def gradient(model, params, batch, weight):
  def total(params):
    return (weight * models.token_logps(model, params, batch, chunk=5)).sum()

  return jax.value_and_grad(total)(params)


def randoms(seed=0):
  return np.random.default_rng(seed)


def ids(rng, n):
  return rng.integers(1, V, n).astype(np.int32)


# A pair is (prompt, common head, (rest of answer 0, rest of answer 1)).
def pairs(rng, n, image=True):
  picture = np.full(4 if image else 0, IMAGE, np.int32)
  return [
    (
      np.r_[ids(rng, 2), picture, ids(rng, rng.integers(1, 4))],
      ids(rng, rng.integers(0, 4)),
      (ids(rng, rng.integers(1, 7)), ids(rng, rng.integers(1, 7))),
    )
    for _ in range(n)
  ]


def roles_of(head, rest):
  """The head is unchanged, every third token of a rest corrected."""
  return np.r_[np.ones(len(head)), 1 + (np.arange(len(rest)) % 3 == 0)]


def trunks(rows, images, bucket=BUCKET):
  """One row a pair."""
  trunk, room, _ = bucket
  length = trunk + 2 * room
  tokens = np.zeros((len(rows), length), np.int32)
  roles = np.zeros((len(rows), 2, length), np.int8)
  lengths = []
  for b, (prompt, head, rests) in enumerate(rows):
    common = np.r_[prompt, head]
    tokens[b, : len(common)] = common
    lengths.append([len(common), *map(len, rests)])
    for c, rest in enumerate(rests):
      own = trunk + c * room + np.arange(len(rest))
      tokens[b, own] = rest
      where = np.r_[np.arange(len(prompt), len(common)), own]
      roles[b, c, where] = roles_of(head, rest)
  arrays = dict(tokens=tokens, roles=roles, images=images)
  return Batch(arrays | {'lengths': np.array(lengths, np.int32)}, bucket)


def answer_rows(rows, c, images):
  """Answer c of each pair alone: all of it in the trunk, no branch filled."""
  batch = trunks([(p, h, ([], [])) for p, h, _ in rows], images)
  for b, (prompt, head, rests) in enumerate(rows):
    whole = np.r_[prompt, head, rests[c]]
    batch['tokens'][b, : len(whole)] = whole
    batch['roles'][b] = 0
    roles = roles_of(head, rests[c])
    batch['roles'][b, c, len(prompt) : len(whole)] = roles
    batch['lengths'][b] = len(whole), 0, 0
  return batch


def weights(roles):
  """[B,C,L]: what a token weighs in its answer's mean, gamma 5."""
  weight = np.where(roles == 2, 5.0, 1.0) * (roles > 0)
  total = weight.sum(-1, keepdims=True)
  return np.float32(weight / np.where(total > 0, total, 1))


def pictures(rng, n, side=16):
  return rng.integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def assert_close_leaves(a, b, tolerance=1e-5):
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    error = np.linalg.norm(np.subtract(x, y))
    size = np.linalg.norm(y)
    assert error <= tolerance * size, (path, error, size)


def path_of(t, lengths):
  """Slots on the way to slot t, t itself last; the long way round."""
  trunk = list(range(lengths[0]))
  if t < BUCKET[0]:
    return trunk[: t + 1] if t < lengths[0] else []
  branch, offset = divmod(t - BUCKET[0], BUCKET[1])
  if offset >= lengths[1 + branch]:
    return []
  start = BUCKET[0] + branch * BUCKET[1]
  return trunk + list(range(start, start + offset + 1))


def test_a_token_depends_on_its_own_path_and_on_nothing_else():
  model, params = made()
  batch = trunks(pairs(randoms(0), 4), pictures(randoms(0), 4))
  batch['lengths'][0] = 18, 7, 7  # every slot filled
  slots = 1 + np.arange(batch['tokens'].shape[1])  # each slot its own word
  batch['tokens'][:] = slots
  batch['roles'][:] = 1
  for row, lengths in enumerate(batch['lengths']):
    for t in range(len(slots)):
      one = np.zeros_like(batch['tokens'], np.float32)
      one[row, t] = 1
      _, effect = gradient(model, params, batch, one)
      table = effect['language_model']['embed_tokens']['embedding']
      felt = np.flatnonzero(np.linalg.norm(table[slots], axis=-1))
      assert felt.tolist() == path_of(t, lengths)[:-1], (row, t)


def test_a_trunk_row_equals_two_rows():
  model, params = made()
  rng = randoms(1)
  rows, images = pairs(rng, 4), pictures(rng, 4)
  one = trunks(rows, images)
  two = [answer_rows(rows, c, images) for c in (0, 1)]

  def score(c, batch):
    logps = token_logps(model, params, batch)
    return (weights(batch['roles'])[:, c] * logps).sum(-1)

  margin = score(0, one) - score(1, one)
  np.testing.assert_allclose(
    margin, score(0, two[0]) - score(1, two[1]), rtol=1e-5, atol=1e-6
  )
  # d loss / d logp of -log sigmoid(margin): the same rule in both layouts.
  slope = -jax.nn.sigmoid(-margin)[:, None]
  first, second = weights(one['roles']).swapaxes(0, 1)
  _, shared = gradient(model, params, one, slope * (first - second))
  signed = zip((slope, -slope), two, (0, 1), strict=True)
  apart = [
    gradient(model, params, batch, sign * weights(batch['roles'])[:, c])[1]
    for sign, batch, c in signed
  ]
  assert_close_leaves(shared, jax.tree.map(np.add, *apart))
  assert np.linalg.norm(shared['mm_projector']['kernel']) > 0


def test_a_row_that_counts_nothing_gives_no_gradient():
  model, params = made()
  rng = randoms(2)
  batch = trunks(pairs(rng, 4), pictures(rng, 4))
  ones = np.ones_like(batch['tokens'], np.float32)
  nothing = np.array([False, True, True, False])
  batch['roles'][nothing] = 0
  batch['lengths'][1] = 0
  value, some = gradient(model, params, batch, ones)
  for name in ('tokens', 'images', 'lengths'):
    batch[name][nothing] = batch[name][0]
  same, others = gradient(model, params, batch, ones)
  assert value == same < 0
  assert_close_leaves(some, others, 1e-6)

  batch['roles'][:] = 0
  value, none = gradient(model, params, batch, ones)
  assert value == 0
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(none))
