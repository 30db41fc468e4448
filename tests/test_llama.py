"""The decoder against Hugging Face's, a loop of layers, and its own cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models
from rlhfv_jax.models import layers, llama

TEXT = dict(
  vocab_size=67, width=32, mlp=48, depth=3, heads=4, kv_heads=2,
  max_length=64, rope_theta=5000.0, rms_eps=1e-5,
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


def from_torch(module, depth):
  """torch's weights under our names: [out, in] turned, layers stacked."""
  state = {k: v.numpy() for k, v in module.state_dict().items()}
  per_layer = {
    'self_attn': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
    'mlp': ['gate_proj', 'up_proj', 'down_proj'],
  }

  def stacked(name):
    each = [state[f'model.layers.{i}.{name}.weight'] for i in range(depth)]
    return np.stack([w.T for w in each])

  blocks = {
    part: {n: {'kernel': stacked(f'{part}.{n}')} for n in names}
    for part, names in per_layer.items()
  }
  for norm in ('input_layernorm', 'post_attention_layernorm'):
    blocks[norm] = {'weight': stacked(norm)}
  return {
    'language_model': {
      'embed_tokens': {'embedding': state['model.embed_tokens.weight']},
      'layers': blocks,
      'norm': {'weight': state['model.norm.weight']},
      'lm_head': {'kernel': state['lm_head.weight'].T},
    }
  }


@pytest.mark.parametrize('tie', [False, True])
def test_logits_equal_those_of_hugging_face(tie):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  reference = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=TEXT['vocab_size'],
      hidden_size=TEXT['width'],
      intermediate_size=TEXT['mlp'],
      num_hidden_layers=TEXT['depth'],
      num_attention_heads=TEXT['heads'],
      num_key_value_heads=TEXT['kv_heads'],
      rope_parameters={
        'rope_type': 'default',
        'rope_theta': TEXT['rope_theta'],
      },
      rms_norm_eps=TEXT['rms_eps'],
      tie_word_embeddings=tie,
      initializer_range=0.2,
    )
  ).eval()
  with torch.no_grad():
    for norm in [p for n, p in reference.named_parameters() if 'norm' in n]:
      norm.normal_(1, 0.2)
  params = from_torch(reference, TEXT['depth'])
  if tie:
    del params['language_model']['lm_head']
  model = models.build(dict(text={**TEXT, 'tie_head': tie}))
  fresh = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)

  tokens = np.random.default_rng(0).integers(0, 67, (2, 21))
  with torch.no_grad():
    expected = reference(torch.tensor(tokens)).logits.numpy()
  hidden, cache = model.apply(
    {'params': params}, tokens, positions(2, 21), causal(21)
  )
  logits = model.apply({'params': params}, hidden, method='logits')
  assert cache is None and np.abs(expected).max() > 1
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_scan_is_a_loop_over_its_layers():
  model, params = made()
  tree = params['language_model']
  config, x = model.config.text, randoms(1, 2, 9, 32)
  decoder = llama.Llama(config, 'float32', 'none')
  scanned, _ = jax.jit(decoder.apply)(
    {'params': tree}, x, positions(2, 9), causal(9)
  )
  angles = layers.rotary_angles(positions(2, 9), 8, config.rope_theta)
  layer = jax.jit(llama.Layer(config, 'float32').apply)
  for i in range(config.depth):
    own = jax.tree.map(lambda w, i=i: w[i], tree['layers'])
    x, _ = layer({'params': own}, x, angles, causal(9), None)
  norm = layers.RMSNorm(config.rms_eps, 'float32')
  expected = norm.apply({'params': tree['norm']}, x)
  np.testing.assert_allclose(scanned, expected, atol=1e-6)


def test_remat_changes_no_value():
  _, params = made()
  tokens = np.random.default_rng(2).integers(0, 67, (2, 9))

  def gradient(remat):
    model = models.build(dict(text=TEXT, remat=remat))

    def loss(params):
      args = tokens, positions(2, 9), causal(9)
      return (model.apply({'params': params}, *args)[0] ** 3).sum()

    grad = jax.grad(loss)
    return jax.jit(grad)(params), 'remat' in str(jax.make_jaxpr(grad)(params))

  (kept, no), (remade, yes) = gradient('none'), gradient('full')
  assert yes and not no
  for a, b in zip(*map(jax.tree.leaves, (kept, remade)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


def test_a_cache_changes_no_value():
  model, params = made()
  apply = jax.jit(functools.partial(model.apply, {'params': params}))
  tokens = np.random.default_rng(3).integers(0, 67, (2, 9))
  full, _ = apply(tokens, positions(2, 9), causal(9))
  cache = models.empty_cache(model.config, 2)
  done = 0
  for size in (5, 1, 3):
    now = slice(done, done + size)
    mask = causal(9)[:, :, now, : done + size]
    hidden, own = apply(
      tokens[:, now], positions(2, 9)[:, now], mask, None, cache
    )
    np.testing.assert_allclose(hidden, full[:, now], atol=1e-5)
    assert own.k.shape == (3, 2, size, 2, 8)
    cache = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 2), cache, own)
    done += size


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

  def dots(shift):
    angles = layers.rotary_angles(positions(1, 6) + shift, 8, 100.0)
    return jnp.einsum(
      'blnk,bsnk->bls', layers.rotate(q, angles), layers.rotate(k, angles)
    )

  np.testing.assert_allclose(dots(0), dots(17), atol=1e-4)
  assert np.abs(dots(0) - jnp.einsum('blnk,bsnk->bls', q, k)).max() > 0.1
