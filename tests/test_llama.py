"""The decoder against a loop of its layers, the textbook, and its own cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import models
from rlhfv_jax.models import layers, llama
from rlhfv_jax.models.config import TextConfig

TEXT = dict(
  vocab_size=67, width=32, mlp=48, depth=3, heads=4, kv_heads=2,
  max_length=64, rope_theta=5000.0, rms_eps=1e-5, rope_factor=4.0,
  rope_original=64,
)  # fmt: skip


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
  model = models.build(dict(text=TEXT))
  return model, scattered(model, 0.1)


def randoms(seed, *shape):
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.array(values, jnp.float32)


def causal(length):
  return np.tril(np.ones((length, length), bool))[None, None]


def positions(batch, length):
  return np.broadcast_to(np.arange(length), (batch, length))


def test_the_scan_is_a_loop_over_its_layers():
  model, params = made()
  tree = params['language_model']
  config, x = model.config.text, randoms(1, 2, 9, 32)
  decoder = llama.Llama(config, 'float32', 'none')
  scanned = jax.jit(decoder.apply)(
    {'params': tree}, x, positions(2, 9), causal(9)
  )
  rates = llama.rotary_rates(config)
  angles = layers.rotary_angles(positions(2, 9), rates)
  layer = jax.jit(llama.Layer(config, 'float32').apply)
  for i in range(config.depth):
    own = jax.tree.map(lambda w, i=i: w[i], tree['layers'])
    x, _ = layer({'params': own}, x, angles, causal(9), None)
  norm = layers.RMSNorm(config.rms_eps, 'float32')
  expected = norm.apply({'params': tree['norm']}, x)
  np.testing.assert_allclose(scanned, expected, atol=1e-6)


def test_a_cpu_has_a_few_layers_in_no_loop(monkeypatch):
  model, params = made()
  tokens = np.random.default_rng(2).integers(0, 67, (2, 9))

  @jax.grad
  def gradient(params):
    args = tokens, jnp.arange(18).reshape(2, 9) % 9, causal(9)
    return (model.apply({'params': params}, *args) ** 3).sum()

  def compiled():
    jax.clear_caches()
    done = jax.jit(gradient).lower(params).compile()
    return done(params), done.as_text()

  out, program = compiled()
  assert ' while(' not in program
  monkeypatch.setattr(layers, 'WRITTEN_OUT', 2)
  loop, other = compiled()
  assert ' while(' in other
  for a, b in zip(*map(jax.tree.leaves, (out, loop)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


def test_every_head_of_every_layer_turns_by_the_same_angles():
  """Computed once, though XLA likes to do so wherever they are used."""
  model, params = made()

  @jax.jit
  def hidden(params, tokens, position):
    args = tokens, position, causal(9)
    return model.apply({'params': params}, *args)

  tokens = np.zeros((2, 9), np.int32)
  program = hidden.lower(params, tokens, tokens).compile().as_text()
  assert program.count(' cosine(') == program.count(' sine(') == 1


def test_remat_changes_no_value():
  _, params = made()
  tokens = np.random.default_rng(2).integers(0, 67, (2, 9))

  def gradient(remat):
    model = models.build(dict(text=TEXT, remat=remat))

    def loss(params):
      args = tokens, positions(2, 9), causal(9)
      return (model.apply({'params': params}, *args) ** 3).sum()

    grad = jax.grad(loss)
    return jax.jit(grad)(params), 'remat' in str(jax.make_jaxpr(grad)(params))

  (kept, no), (remade, yes) = gradient('none'), gradient('full')
  assert yes and not no
  for a, b in zip(*map(jax.tree.leaves, (kept, remade)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


def test_a_cache_changes_no_value():
  model, params = made()
  weights = models.split(model, params)
  embed = functools.partial(
    model.apply, {'params': weights.rest}, method='embed'
  )
  forward = jax.jit(functools.partial(models.forward, model, weights))
  tokens = np.random.default_rng(3).integers(0, 67, (4, 9))
  # Two answers to each of two prompts.
  tokens[1::2, :5] = tokens[::2, :5]
  apply = jax.jit(model.apply)
  full = apply({'params': params}, tokens, positions(4, 9), causal(9))
  nothing = (models.Past(),) * 3
  _, prompts = forward(
    embed(tokens[::2, :5]), positions(2, 5), causal(5), nothing
  )
  new = (models.kept_by(model, 4, 6),) * 3
  for t in range(5, 9):
    at = (t - 1) % 6  # a ring: its columns are in no order
    pasts = [models.Past(*both, at) for both in zip(prompts, new, strict=True)]
    ring = np.isin(np.arange(6), np.arange(4, t) % 6)[None].repeat(4, 0)
    mask = (np.ones((4, 5), bool), ring)
    x, new = forward(
      embed(tokens[:, t : t + 1]), positions(4, 9)[:, t : t + 1], mask, pasts
    )
    norm = layers.RMSNorm(model.config.text.rms_eps, 'float32')
    hidden = norm.apply({'params': params['language_model']['norm']}, x)
    np.testing.assert_allclose(hidden[:, 0], full[:, t], atol=1e-5)


def test_attention_is_the_textbook_sum_over_visible_keys():
  q, k, v = (
    randoms(4, 2, 5, 4, 8),
    randoms(5, 2, 7, 2, 8),
    randoms(6, 2, 7, 2, 8),
  )
  mask = np.random.default_rng(7).random((2, 1, 5, 7)) < 0.5
  mask[..., 0] = True
  out = layers.attention(q, k, v, mask).reshape(2, 5, 4, 8)
  for b in range(2):
    for t in range(5):
      for n in range(4):
        see, own = mask[b, 0, t], n // 2  # two heads share a key-value head
        logits = np.array(k[b, see, own] @ q[b, t, n]) / np.sqrt(8)
        weight = np.exp(logits) / np.exp(logits).sum()
        expected = weight @ np.array(v[b, see, own])
        np.testing.assert_allclose(out[b, t, n], expected, atol=1e-5)


def test_rotary_attention_knows_distances_only():
  q, k = randoms(8, 1, 6, 1, 8), randoms(9, 1, 6, 1, 8)
  rates = np.array([1.0, 0.3, 0.1, 0.03])

  def dots(shift):
    angles = layers.rotary_angles(positions(1, 6) + shift, rates)
    return jnp.einsum(
      'blnk,bsnk->bls', layers.rotate(q, angles), layers.rotate(k, angles)
    )

  np.testing.assert_allclose(dots(0), dots(17), atol=1e-4)
  assert np.abs(dots(0) - jnp.einsum('blnk,bsnk->bls', q, k)).max() > 0.1


def test_longer_texts_slow_down_what_turns_slowly():
  def rates(**change):
    return llama.rotary_rates(
      TextConfig(**{**TEXT, 'rope_factor': 1, **change})
    )

  plain = rates()
  np.testing.assert_allclose(plain, 5000.0 ** -np.array([0, 0.25, 0.5, 0.75]))
  np.testing.assert_allclose(rates(rope_factor=4, rope_original=0), plain / 4)
  # In 64 positions the pairs turn 10.2, 1.2, 0.14 and 0.02 times.
  first, second, *slow = plain / rates(rope_factor=4)
  assert first == 1 and 1 < second < 4
  np.testing.assert_allclose(slow, 4)
  # Half way from low to high, a rate is the mean of both.
  turns = 64 * plain[1] / (2 * np.pi)
  half = rates(rope_factor=4, rope_low=turns - 1, rope_high=turns + 1)
  np.testing.assert_allclose(half[1], plain[1] * (1 + 1 / 4) / 2)
