"""Decoding: equal to the full forward pass, whatever stands beside a prompt."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models
from rlhfv_jax.batch import Batch
from rlhfv_jax.generate import Decoding, generate, likely

V, IMAGE, NEW = 67, -200, 6
STOP = tuple(range(2, V, 4))
TEXT = dict(
  vocab_size=V, width=32, mlp=48, depth=2, heads=4, kv_heads=2, max_length=32,
  rope_factor=4.0, rope_original=32,
)  # fmt: skip
# No layer of this tower is built: patches and positions are picture enough.
VISION = dict(
  kind='clip', image_size=16, patch=8, width=24, mlp=32, depth=1, heads=4
)
LENGTHS = [9, 5, 12, 7, 0]  # the last row only fills the batch
PROMPTS = len(LENGTHS) - 1


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
def made():
  model = models.build(dict(text=TEXT, vision=VISION, image_token=IMAGE))
  return model, scattered(model, 0.12)


@functools.cache
def prompts():
  rng = np.random.default_rng(1)
  tokens = np.zeros((len(LENGTHS), max(LENGTHS)), np.int32)
  for b, length in enumerate(LENGTHS):
    tokens[b, :length] = rng.integers(1, V, length)
    if length and b != 1:  # row 1 has no picture to see
      tokens[b, b : b + 4] = IMAGE
  return Batch(
    {
      'tokens': tokens,
      'lengths': np.stack([LENGTHS, np.zeros_like(LENGTHS)], 1).astype('i4'),
      'images': rng.integers(0, 256, (len(LENGTHS), 16, 16, 3)).astype('u1'),
      'index': np.arange(len(LENGTHS)),
    },
    (max(LENGTHS), 0, 1),
  )


GREEDY = Decoding(NEW, stop=STOP)
SAMPLED = Decoding(NEW, temperature=1.5, top_p=0.9, top_k=20, n=3)


@functools.cache
def answers(decoding, seed=0):
  """Tokens and logps of the rows that have a prompt."""
  out = generate(*made(), prompts(), decoding, jax.random.key(seed))
  return [np.array(x)[: PROMPTS * decoding.n] for x in out]


def going(tokens):
  """Up to the stop and with it."""
  stopped = np.cumsum(np.isin(tokens, STOP), axis=1)
  return np.pad(stopped, [(0, 0), (1, 0)])[:, :-1] == 0


@functools.partial(jax.jit, static_argnums=0)
def _forward(model, params, batch):
  hidden = models.hidden(model, params, batch)
  return model.apply({'params': params}, hidden, method='logits')


def logits_given(tokens):
  """What the whole model says at each new token of an answer a prompt."""
  lengths = np.array(LENGTHS[:PROMPTS])
  whole = np.pad(prompts()['tokens'][:PROMPTS], [(0, 0), (0, NEW)])
  for b, length in enumerate(lengths):
    whole[b, length : length + NEW] = tokens[b]
  full = np.stack([lengths + NEW, 0 * lengths], 1).astype(np.int32)
  arrays = dict(
    tokens=whole, lengths=full, images=prompts()['images'][:PROMPTS]
  )
  logits = _forward(*made(), Batch(arrays, (whole.shape[1], 0, 1)))
  at = lengths[:, None] - 1 + np.arange(NEW)[None]
  return np.array(logits)[np.arange(PROMPTS)[:, None], at]


def logps_given(tokens):
  logits = jnp.array(logits_given(tokens))
  return models.logps_from_logits(logits, jnp.array(tokens))


def test_greedy_is_the_argmax_of_the_full_forward():
  tokens, logps = answers(GREEDY)
  alive = going(tokens)
  expected, best = logps_given(tokens), logits_given(tokens).argmax(-1)
  assert len(np.unique(tokens)) > 5
  np.testing.assert_array_equal(tokens[alive], best[alive])
  np.testing.assert_allclose(logps[alive], expected[alive], atol=1e-5)


def test_an_answer_ends_with_its_stop_token():
  tokens, logps = answers(GREEDY)
  alive = going(tokens)
  assert alive[:, -1].any() and not alive[:, -1].all()
  assert (logps[alive] < 0).all()
  assert not tokens[~alive].any() and not logps[~alive].any()


def test_a_prompt_is_answered_as_if_it_were_alone():
  tokens, logps = answers(GREEDY)
  batch, length = prompts(), LENGTHS[1]
  alone = Batch(
    {
      'tokens': batch['tokens'][1:2, :length],
      'lengths': batch['lengths'][1:2],
      'images': batch['images'][1:2],
    },
    (length, 0, 1),
  )
  own, own_logps = generate(*made(), alone, GREEDY, jax.random.key(0))
  np.testing.assert_array_equal(own[0], tokens[1])
  np.testing.assert_allclose(own_logps[0], logps[1], atol=1e-5)


def test_the_picture_counts():
  _, logps = answers(GREEDY)
  batch = Batch(dict(prompts()), prompts().bucket)
  batch['images'] = 255 - batch['images']
  _, others = generate(*made(), batch, GREEDY, jax.random.key(0))
  seen = np.array([True, False, True, True])
  changed = (np.array(others)[:PROMPTS] != logps).any(1)
  np.testing.assert_array_equal(changed, seen)


def test_a_row_without_a_prompt_stays_empty():
  for x in generate(*made(), prompts(), GREEDY, jax.random.key(0)):
    assert not x[PROMPTS:].any()


def test_samples_carry_the_logps_of_the_untempered_distribution():
  tokens, logps = answers(SAMPLED)
  assert tokens.shape == (3 * PROMPTS, NEW)
  for k in range(3):
    own, claimed = tokens[k::3], logps[k::3]
    np.testing.assert_allclose(claimed, logps_given(own), atol=1e-5)
    kept = likely(jnp.array(logits_given(own).reshape(-1, V)), SAMPLED)
    chosen = np.array(kept)[np.arange(own.size), own.reshape(-1)]
    assert np.isfinite(chosen).all()


def test_samples_differ_by_key_and_within_a_prompt():
  tokens, _ = answers(SAMPLED)
  for own in tokens.reshape(PROMPTS, 3, NEW):
    assert len(np.unique(own, axis=0)) == 3
  other, _ = answers(SAMPLED, seed=1)
  assert (tokens != other).any(-1).all()


def test_bfloat16_logps_are_near_those_of_the_full_forward():
  model = models.build(
    dict(text=TEXT, vision=VISION, image_token=IMAGE, dtype='bfloat16')
  )
  batch, params = prompts(), made()[1]
  tokens, logps = generate(model, params, batch, GREEDY, jax.random.key(0))
  tokens, logps = np.array(tokens), np.array(logps)
  whole = np.pad(batch['tokens'], [(0, 0), (0, NEW)])
  for b, length in enumerate(LENGTHS):
    whole[b, length : length + NEW] = tokens[b]
  filled = batch['lengths'] + np.array([NEW, 0]) * (batch['lengths'][:, :1] > 0)
  arrays = dict(
    tokens=whole, lengths=filled.astype(np.int32), images=batch['images']
  )
  score = jax.jit(functools.partial(models.token_logps, model))
  given = np.array(score(params, Batch(arrays, (whole.shape[1], 0, 1))))
  alive = going(tokens)
  for b, length in enumerate(LENGTHS[:PROMPTS]):
    size = alive[b].sum()
    np.testing.assert_allclose(
      logps[b, :size], given[b, length : length + size], atol=2e-2
    )


def random_logits():
  return jnp.array(np.random.default_rng(2).normal(size=(50, 12)) * 2)


@pytest.mark.parametrize('top_p', [1e-6, 0.3, 0.9, 1.0])
def test_top_p_keeps_the_smallest_set_with_that_mass(top_p):
  logits = random_logits()
  kept = np.isfinite(likely(logits, Decoding(1, temperature=2.0, top_p=top_p)))
  p = np.array(jax.nn.softmax(logits / 2))
  mass = np.where(kept, p, 0).sum(1)
  least = np.where(kept, p, 1).min(1)
  assert (mass >= top_p - 1e-6).all()
  assert (mass - least < top_p).all()  # one token fewer would not do
  assert (np.where(kept, 0, p).max(1) <= least).all()


@pytest.mark.parametrize('top_k', [1, 5, 12, 100])
def test_top_k_keeps_the_likeliest(top_k):
  logits = random_logits()
  left = np.array(likely(logits, Decoding(1, temperature=0.5, top_k=top_k)))
  kept = np.isfinite(left)
  assert (kept.sum(1) == min(top_k, 12)).all()
  np.testing.assert_allclose(left[kept], logits[kept] * 2, rtol=1e-6)
  outside = np.where(kept, -np.inf, logits).max(1)
  assert (outside <= np.where(kept, logits, np.inf).min(1)).all()


def test_top_p_counts_what_top_k_left():
  logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
  both = Decoding(1, temperature=1.0, top_k=2, top_p=0.5)
  # Of the two that are left the first has 4/7 of the mass.
  assert np.isfinite(likely(logits, both)).tolist() == [[1, 0, 0, 0]]
  alone = Decoding(1, temperature=1.0, top_p=0.5)
  assert np.isfinite(likely(logits, alone)).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize(
  'wrong',
  [
    dict(max_new=0),
    dict(temperature=-0.1),
    dict(top_p=0.0),
    dict(top_p=1.1),
    dict(top_k=-1),
    dict(n=0),
    dict(beams=0),
    dict(repetition_penalty=0.0),
  ],
)
def test_a_wrong_setting_is_named(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    Decoding(**{'max_new': 4, **wrong})


def test_beams_are_not_sampled_and_are_as_many_as_answers():
  for wrong in (dict(temperature=1.0), dict(n=3)):
    with pytest.raises(ValueError, match='2 beams'):
      Decoding(4, beams=2, **wrong)


def test_what_does_not_fit_is_refused():
  model, params = made()
  key = jax.random.key(0)
  with pytest.raises(ValueError, match='12 and 21 new tokens .* 32'):
    generate(model, params, prompts(), Decoding(max_new=21), key)
  forked = Batch(dict(prompts()), (8, 2, 2))
  with pytest.raises(ValueError, match='prompts are trunks'):
    generate(model, params, forked, Decoding(max_new=4), key)
