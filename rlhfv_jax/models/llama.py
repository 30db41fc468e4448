"""The decoder: Llama (arXiv 2302.13971), its layers one scan.

Training runs the scan. What writes text runs a layer at a time (`unrolled.py`)
and hands each its `Past`, an argument and a result.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from rlhfv_jax import sharding
from rlhfv_jax.models import layers
from rlhfv_jax.models.config import TextConfig


class Cache(NamedTuple):
  """What one layer keeps of S tokens, lying as the products read it."""

  k: jax.Array  # [B,G,K,S]
  v: jax.Array  # [B,G,S,K]


class Past(NamedTuple):
  """What a layer is told of earlier tokens; empty, it only keeps its own.

  Neighbours may share a prompt: then `prompt` has fewer rows. A new token is
  put into column `at` of `new`: one for all rows, or i32[B] each its own.
  """

  prompt: Cache | None = None
  new: Cache | None = None
  at: jax.Array | None = None


def rotary_rates(config: TextConfig) -> np.ndarray:
  """Radians a position of each pair of a head (arXiv 2104.09864)."""
  c, pair = config, np.arange(0, config.head_dim, 2)
  rate = c.rope_theta ** (-pair / c.head_dim)
  turns = c.rope_original * rate / (2 * np.pi)
  kept = np.clip((turns - c.rope_low) / (c.rope_high - c.rope_low), 0, 1)
  return rate * (kept + (1 - kept) / c.rope_factor)


class Attention(nn.Module):
  config: TextConfig
  dtype: str

  @nn.compact
  def __call__(self, x, angles, mask, past=None):
    c = self.config

    def project(name, heads):
      width = heads * c.head_dim
      out = layers.dense(width, name=name, dtype=self.dtype, bias=False)(x)
      return layers.split_heads(out, heads)

    q = layers.rotate(project('q_proj', c.heads), angles)
    k = layers.rotate(project('k_proj', c.kv_heads), angles)
    v = project('v_proj', c.kv_heads)
    # Names for what a remat policy may keep.
    q, k, v = (
      checkpoint_name(x, n) for x, n in zip((q, k, v), 'qkv', strict=True)
    )
    own = None
    if past is not None:
      own = Cache(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))
    if past is None or past.new is None:
      out = checkpoint_name(layers.attention(q, k, v, mask), 'context')
    else:
      own = _put(past.new, own, past.at)
      parts = zip((past.prompt, own), mask, strict=True)
      out = layers.attention_of_one(q, [(*kept, m) for kept, m in parts])
    scale = (2 * c.depth) ** -0.5
    out = layers.dense(
      c.width, name='o_proj', dtype=self.dtype, bias=False, scale=scale
    )(out)
    return out, own


def _put(cache, own, at):
  if jnp.ndim(at) == 0:
    put = jax.lax.dynamic_update_slice_in_dim
    return Cache(put(cache.k, own.k, at, 3), put(cache.v, own.v, at, 2))
  row = jnp.arange(len(at))
  told = dict(unique_indices=True, indices_are_sorted=True)
  return Cache(
    cache.k.at[row, :, :, at].set(own.k[..., 0], **told),
    cache.v.at[row, :, at].set(own.v[:, :, 0], **told),
  )


class Layer(nn.Module):
  """x -> x, and what is kept of it: nothing in training, where past is None.

  With a past x is one token a row, and mask a pair: who of the prompt is seen,
  and who of the new, bool[B,S] each.
  """

  config: TextConfig
  dtype: str

  @nn.compact
  def __call__(self, x, angles, mask, past=None):
    c = self.config

    def norm(name):
      return layers.RMSNorm(c.rms_eps, self.dtype, name=name)

    x = sharding.by_rows(x)
    h = norm('input_layernorm')(x)
    h, own = Attention(c, self.dtype, name='self_attn')(h, angles, mask, past)
    x = x + h
    h = norm('post_attention_layernorm')(x)
    scale = (2 * c.depth) ** -0.5
    return x + layers.SwiGLU(c.mlp, self.dtype, scale, name='mlp')(h), own


class Head(nn.Module):
  """hidden -> logits; a tied model lends the transposed embedding."""

  vocab_size: int
  dtype: str

  @nn.compact
  def __call__(self, x, tied=None):
    shape = (x.shape[-1], self.vocab_size)
    kernel = (
      self.param('kernel', layers.MULTIPLIED, shape) if tied is None else tied
    )
    exact = jnp.promote_types(self.dtype, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return layers.product(x, kernel, exact)


class Llama(nn.Module):
  """Embedded inputs and who may see whom -> hidden states, normalised."""

  config: TextConfig
  dtype: str
  remat: str

  def setup(self):
    c = self.config
    self.embed_tokens = nn.Embed(
      c.vocab_size, c.width, dtype=self.dtype, embedding_init=layers.LOOKED_UP
    )
    self.layers = layers.stack(
      Layer,
      depth=c.depth,
      remat=self.remat,
      in_axes=(nn.broadcast, nn.broadcast),
    )(c, self.dtype)
    self.norm = layers.RMSNorm(c.rms_eps, self.dtype)
    self.lm_head = Head(c.vocab_size, self.dtype)

  def __call__(
    self,
    x_BLD: jax.Array,
    position_BL: jax.Array,
    mask: jax.Array,
  ) -> jax.Array:
    """mask is bool[B,1,L,L], or a `Sight`."""
    angles = layers.rotary_angles(position_BL, rotary_rates(self.config))
    return self.norm(self.layers(x_BLD, angles, mask)[0])

  def embed(self, tokens: jax.Array) -> jax.Array:
    return self.embed_tokens(tokens)

  def predict(self, x: jax.Array) -> jax.Array:
    """What the last layer made -> logits of the tokens that follow."""
    return self.logits(self.norm(x))

  def logits(self, hidden: jax.Array) -> jax.Array:
    """At least float32, whatever is computed in."""
    tied = self.embed_tokens.embedding.T if self.config.tie_head else None
    return self.lm_head(hidden, tied)
