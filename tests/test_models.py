"""Batches to log-probabilities: who sees whom, the trunk layout, the head."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from rlhfv_jax import models
from rlhfv_jax.batch import Batch, layout

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


def test_scored_are_roles_or_else_all_words_that_something_predicts():
  model, params = made()
  rng = randoms(3)
  batch = trunks(pairs(rng, 4), pictures(rng, 4))
  logps = token_logps(model, params, batch)
  some = (batch['roles'] > 0).any(1)
  assert (logps[~some] == 0).all() and (logps[some] < 0).all()
  del batch['roles']
  every = token_logps(model, params, batch)
  parent, _, branch = layout(batch['lengths'], batch.bucket)
  words = (parent >= 0) & (branch >= 0) & (batch['tokens'] != IMAGE)
  assert ((every < 0) == words).all()
  np.testing.assert_allclose(every[some], logps[some], atol=1e-5)


@pytest.mark.parametrize('tie, chunk', [(False, 1), (False, 100), (True, 4)])
def test_the_head_in_chunks_equals_the_whole_head(tie, chunk):
  model = models.build(dict(text={**TEXT, 'tie_head': tie}))
  params = made('reads')[1]
  rng = randoms(4)
  bucket, lengths = (9, 5, 2), np.array([[7, 5, 2], [9, 1, 4]], np.int32)
  batch = Batch({'tokens': ids(rng, (2, 19)), 'lengths': lengths}, bucket)
  batch['roles'] = (rng.random((2, 2, 19)) < 0.4).astype(np.int8)
  parent, _, branch = layout(lengths, batch.bucket)
  counts = (batch['roles'] > 0).any(1) & (branch >= 0) & (parent >= 0)
  weight = jnp.array(rng.normal(size=counts.shape), jnp.float32)
  states = jnp.array(rng.normal(size=(2, 19, 32)), jnp.float32)

  def whole(params, states):
    logits = model.apply({'params': params}, states, method='logits')
    logits = logits[np.arange(2)[:, None], np.maximum(parent, 0)]
    logps = jax.nn.log_softmax(logits)
    logps = jnp.take_along_axis(logps, batch['tokens'][..., None], -1)[..., 0]
    return (weight * jnp.where(counts, logps, 0)).sum()

  def chunked(params, states):
    logps = models.logps_of_hidden(
      model, params, batch, states=states, chunk=chunk
    )
    return (weight * logps).sum()

  a, got, b, expected = (
    x
    for f in (chunked, whole)
    for x in jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, states)
  )
  np.testing.assert_allclose(a, b, rtol=1e-5)
  assert_close_leaves(got, expected)


def traced(function, *args):
  """Shapes of all arrays in the jaxpr."""
  shapes = set()

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      shapes.update(v.aval.shape for v in eqn.outvars)
      for inner in jaxprs_in_params(eqn.params):
        walk(inner)

  walk(jax.make_jaxpr(function)(*args).jaxpr)
  return shapes


def test_the_logits_of_all_tokens_never_exist():
  model, params = made('reads')
  rng = randoms(5)
  rows, length, chunk = 8, 38, 7
  lengths = np.array([[length, 0]] * rows, np.int32)
  batch = Batch(
    {'tokens': ids(rng, (rows, length)), 'lengths': lengths}, (length, 0, 1)
  )

  @jax.grad
  def chunked(params):
    return models.token_logps(model, params, batch, chunk=chunk).sum()

  @jax.grad
  def whole(params):
    states = models.hidden(model, params, batch)
    logits = model.apply({'params': params}, states, method='logits')
    return models.logps_from_logits(logits, batch['tokens']).sum()

  def most(shapes):
    """Rows of logits; weights have a vocabulary axis too, with fewer rows."""
    return max(np.prod(s) // V for s in shapes if V in s)

  assert most(traced(whole, params)) == rows * length
  assert most(traced(chunked, params)) == rows * chunk


def test_logps_from_logits_are_aligned_and_never_lose_precision():
  rng = randoms(6)
  logits = rng.normal(size=(2, 3, V)) * 5
  chosen = ids(rng, (2, 3))
  chosen[0, 1] = -100
  shifted = logits - logits.max(-1, keepdims=True)
  log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  expected = np.take_along_axis(
    log_softmax, np.maximum(chosen, 0)[..., None], -1
  )[..., 0]
  with jax.enable_x64(True):
    logps = models.logps_from_logits(jnp.array(logits), jnp.array(chosen))
    assert logps.dtype == jnp.float64
    np.testing.assert_allclose(logps, expected, atol=1e-13)
  half = models.logps_from_logits(jnp.bfloat16(logits), jnp.array(chosen))
  assert half.dtype == jnp.float32


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


def test_half_precision_computes_in_it_and_sums_in_float32():
  model, params = made('reads', dtype='bfloat16')
  exact, _ = made('reads')
  rng = randoms(12)
  batch = trunks(pairs(rng, 4, image=False), pictures(rng, 4))
  states = jax.eval_shape(
    functools.partial(models.hidden, model), params, batch
  )
  assert states.dtype == jnp.bfloat16
  logps = token_logps(model, params, batch)
  assert logps.dtype == jnp.float32
  expected = token_logps(exact, params, batch)
  error = np.abs(logps - expected).max() / np.abs(expected).max()
  assert 1e-6 < error < 0.05


def test_init_is_pure_and_stacks_the_layers():
  model, _ = made()
  init = jax.jit(models.init, static_argnums=0)
  params, other = (init(model, jax.random.key(i)) for i in (3, 4))
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
  assert set(params) == {'language_model', 'vision_tower', 'mm_projector'}
  language = params['language_model']
  layers = language['layers']
  assert layers['self_attn']['k_proj']['kernel'].shape == (2, 32, 16)
  assert (layers['input_layernorm']['weight'] == 1).all()
  head = language['lm_head']['kernel']
  assert 0.8 < head.std() * 32**0.5 < 1.2  # one over the root of its inputs
  first, second = layers['mlp']['gate_proj']['kernel']
  assert (first != second).all()
  assert (other['language_model']['lm_head']['kernel'] != head).all()


def test_a_config_dict_builds_what_a_dict_builds():
  config = ml_collections.FrozenConfigDict(SEES)
  assert models.build(config) == models.build(SEES)
  blind = {**SEES, 'vision': None}
  assert models.build(ml_collections.ConfigDict(blind)) == models.build(blind)
  assert models.build(blind).config.image_tokens == 0
  assert hash(models.build(config)) == hash(models.build(SEES))


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(txt={}), "unknown key 'txt'; it may be: text"),
    (dict(text={**TEXT, 'kv_head': 2}), "'kv_head'; it may be: kv_heads"),
    (dict(text={'width': 32}), 'text: missing vocab_size, mlp, depth'),
    (dict(text={**TEXT, 'heads': 5}), 'width 32 is no multiple of heads 5'),
    (dict(text={**TEXT, 'kv_heads': 3}), 'heads 4 is no multiple of kv_heads'),
    (dict(text={**TEXT, 'width': 20}), 'leaves 5: choose an even head size'),
    (dict(text={**TEXT, 'rope_factor': 0}), 'rope_factor 0.* above 0'),
    (dict(text={**TEXT, 'rope_low': 4.0}), 'rope_high 4.0.* low < high'),
    (dict(vision={**VISION, 'patch': 5}), 'image_size 16 is no multiple'),
    (dict(vision={**VISION, 'kind': 'dino'}), "'dino' is none of beit3, clip"),
    (dict(vision={**VISION, 'queries': 2}), 'with 2 queries'),
    (dict(image_token=None), 'image_token is missing'),
    (dict(connector='mlp'), "'mlp' is none of linear, mlp2x"),
    (dict(dtype='fp16'), "'fp16' is none of"),
  ],
)
def test_a_wrong_number_is_named(change, message):
  with pytest.raises(ValueError, match=message):
    models.build({**SEES, **change})


def test_a_path_longer_than_the_model_is_refused():
  model, params = made('reads')
  lengths = np.array([[50, 10, 10]], np.int32)

  def shapes(bucket):
    tokens = np.ones((1, bucket[0] + 2 * bucket[1]), np.int32)
    batch = Batch({'tokens': tokens, 'lengths': lengths}, bucket)
    return jax.eval_shape(
      functools.partial(models.hidden, model), params, batch
    )

  assert shapes((50, 14, 2)).shape == (1, 78, 32)
  with pytest.raises(ValueError, match='position 65.*max_length is 64'):
    shapes((50, 15, 2))
