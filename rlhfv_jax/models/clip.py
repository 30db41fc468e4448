"""The tower of LLaVA: the image half of CLIP (arXiv 2103.00020), as patches."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlhfv_jax import sharding
from rlhfv_jax.models import layers, patches
from rlhfv_jax.models.config import VisionConfig


class Attention(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, x):
    c = self.config

    def project(name, x):
      return layers.dense(c.width, name=name, dtype=self.dtype)(x)

    def heads(name):
      return layers.split_heads(project(name, x), c.heads)

    out = layers.attention(heads('q_proj'), heads('k_proj'), heads('v_proj'))
    return project('out_proj', out)


class FeedForward(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = layers.dense(c.mlp, name='fc1', dtype=self.dtype)(x)
    # The cheap GELU that CLIP was trained with.
    x = x * nn.sigmoid(1.702 * x)
    return layers.dense(c.width, name='fc2', dtype=self.dtype)(x)


class Layer(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, x):
    x = sharding.by_rows(x)
    h = layers.LayerNorm(self.dtype, name='layer_norm1')(x)
    x = x + Attention(self.config, self.dtype, name='self_attn')(h)
    h = layers.LayerNorm(self.dtype, name='layer_norm2')(x)
    return x + FeedForward(self.config, self.dtype, name='mlp')(h), None


class Embeddings(nn.Module):
  """Pixels -> class token, then the patches, with learned positions."""

  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, pixels):
    c = self.config
    x = patches.of(pixels, c.patch)
    x = layers.dense(
      c.width, name='patch_embedding', dtype=self.dtype, bias=False
    )(x)
    cls = self.param('class_embedding', layers.LOOKED_UP, (c.width,))
    cls = jnp.broadcast_to(
      cls.astype(x.dtype)[None, None], (x.shape[0], 1, c.width)
    )
    table = nn.Embed(
      c.patches + 1,
      c.width,
      dtype=self.dtype,
      embedding_init=layers.LOOKED_UP,
      name='position_embedding',
    )
    positions = table.embedding.astype(self.dtype)  # every row, in order
    return jnp.concatenate([cls, x], axis=1) + positions[None]


class Encoder(nn.Module):
  config: VisionConfig
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, x):
    c = self.config
    # Layers after the one that is read would be dead weight.
    depth = c.depth + 1 + c.layer
    if depth == 0:
      return x
    scanned = layers.stack(Layer, depth=depth, remat=self.remat, in_axes=())
    return scanned(c, self.dtype, name='layers')(x)[0]


class Clip(nn.Module):
  """Normalised pixels -> patch features [B, patches, D] of the chosen layer."""

  config: VisionConfig
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, pixels_BHWC: jax.Array) -> jax.Array:
    x = Embeddings(self.config, self.dtype, name='embeddings')(pixels_BHWC)
    # The name is misspelt in every released checkpoint.
    x = layers.LayerNorm(self.dtype, name='pre_layrnorm')(x)
    encoder = Encoder(self.config, self.dtype, self.remat, name='encoder')
    return encoder(x)[:, 1:]
