"""The decoder: Llama (arXiv 2302.13971), its layers one scan.

A cache is an argument and a result. `Cache` holds keys and values of earlier
calls; a call returns those of its own tokens and leaves their place to the
caller. None, as in training, returns None.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlhfv_jax.models import layers
from rlhfv_jax.models.config import TextConfig, VLMConfig


class Cache(NamedTuple):
  """Keys and values [depth, B, S, kv_heads, head_dim]."""

  k: jax.Array
  v: jax.Array


def empty_cache(config: VLMConfig, batch: int) -> Cache:
  """No slot yet: what a prefill starts from."""
  text = config.text
  shape = (text.depth, batch, 0, text.kv_heads, text.head_dim)
  return Cache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))


class Attention(nn.Module):
  config: TextConfig
  dtype: str

  @nn.compact
  def __call__(self, x, angles, mask, past):
    c = self.config

    def project(name, heads):
      width = heads * c.head_dim
      out = layers.dense(width, name=name, dtype=self.dtype, bias=False)(x)
      return layers.split_heads(out, heads)

    q = layers.rotate(project('q_proj', c.heads), angles)
    k = layers.rotate(project('k_proj', c.kv_heads), angles)
    v = project('v_proj', c.kv_heads)
    own = None if past is None else Cache(k, v)
    if past is not None:
      k, v = (jnp.concatenate(z, 1) for z in ((past.k, k), (past.v, v)))
    out = layers.attention(q, k, v, mask)
    scale = (2 * c.depth) ** -0.5
    out = layers.dense(
      c.width, name='o_proj', dtype=self.dtype, bias=False, scale=scale
    )(out)
    return out, own


class Layer(nn.Module):
  config: TextConfig
  dtype: str

  @nn.compact
  def __call__(self, x, angles, mask, past):
    c = self.config

    def norm(name):
      return layers.RMSNorm(c.rms_eps, self.dtype, name=name)

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
    return jnp.matmul(x, kernel, preferred_element_type=exact)


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
      in_axes=(nn.broadcast, nn.broadcast, 0),
    )(c, self.dtype)
    self.norm = layers.RMSNorm(c.rms_eps, self.dtype)
    self.lm_head = Head(c.vocab_size, self.dtype)

  def __call__(
    self,
    x_BLD: jax.Array,
    position_BL: jax.Array,
    mask: jax.Array,
    cache: Cache | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """mask is bool[B,1,L,S+L], the S slots of the cache first."""
    c = self.config
    angles = layers.rotary_angles(position_BL, c.head_dim, c.rope_theta)
    x_BLD, cache = self.layers(x_BLD, angles, mask, cache)
    return self.norm(x_BLD), cache

  def embed(self, tokens: jax.Array) -> jax.Array:
    return self.embed_tokens(tokens)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """At least float32, whatever is computed in."""
    tied = self.embed_tokens.embedding.T if self.config.tie_head else None
    return self.lm_head(hidden, tied)
