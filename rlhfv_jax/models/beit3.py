"""The tower of Muffin: BEiT-3 (arXiv 2208.10442) read out by learned queries.

Every weight exists twice: expert A serves the class token and the patches,
expert B the queries. The two meet only in attention, so a sequence travels as a
pair (A part, B part) and is joined only there. Pre-norm with sub-LN
(arXiv 2210.06423): one more norm before each output projection.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import sharding
from rlhfv_jax.models import layers, patches
from rlhfv_jax.models.config import VisionConfig

# Fairseq's position tables start at row 2.
_OFFSET = 2


def resize_positions(table: np.ndarray, *, patches: int) -> np.ndarray:
  """Expert A's positions for pictures of another size, bicubic on the grid.

  The rows of the offset and of the class token stay.
  """
  kept, grid = np.split(np.asarray(table), [_OFFSET + 1])
  old, new = math.isqrt(len(grid)), math.isqrt(patches)
  if old**2 != len(grid) or new**2 != patches or not old * new:
    raise ValueError(
      f'a position table of {len(table)} rows serves {len(grid)} patches and '
      f'{patches} are asked for: both must be squares, with '
      f'{_OFFSET + 1} rows beside them'
    )
  if old == new:
    return np.asarray(table)
  by_row = _bicubic(old, new) @ grid.reshape(old, -1).astype(np.float64)
  by_column = by_row.reshape(new, old, -1).swapaxes(0, 1).reshape(old, -1)
  both = (_bicubic(old, new) @ by_column).reshape(new, new, -1)
  grid = both.swapaxes(0, 1).reshape(patches, -1)
  return np.concatenate([kept, grid.astype(kept.dtype)])


def _bicubic(old: int, new: int) -> np.ndarray:
  """[new, old]: cubic convolution (Keys 1981), edges repeated.

  The slope is torch's -0.75; jax.image has -0.5.
  """
  a, weights = -0.75, np.zeros((new, old))
  center = (np.arange(new) + 0.5) * old / new - 0.5
  for tap in range(-1, 3):
    place = np.floor(center) + tap
    d = np.abs(center - place)
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    place = np.clip(place, 0, old - 1).astype(int)
    weights[np.arange(new), place] += np.where(d <= 1, near, far)
  return weights


class Multiway(nn.Module):
  """A layer twice: A for the first part of the pair, B for the second."""

  make: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, pair):
    a, b = pair
    return self.make(name='A')(a), self.make(name='B')(b)


class FeedForward(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = layers.dense(c.mlp, name='fc1', dtype=self.dtype)(x)
    x = nn.gelu(layers.upcast(x), approximate=False)
    x = layers.LayerNorm(self.dtype, name='ffn_layernorm')(x)
    return layers.dense(c.width, name='fc2', dtype=self.dtype)(x)


class Attention(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, pair):
    c = self.config

    def project(name, pair):
      def make(name):
        return layers.dense(c.width, name=name, dtype=self.dtype)

      return Multiway(make, name=name)(pair)

    def heads(name):
      joined = jnp.concatenate(project(name, pair), axis=1)
      return layers.split_heads(joined, c.heads)

    out = layers.attention(heads('q_proj'), heads('k_proj'), heads('v_proj'))
    pair = jnp.split(out, [pair[0].shape[1]], axis=1)
    pair = _norm('inner_attn_ln', self.dtype)(pair)
    return project('out_proj', pair)


class Layer(nn.Module):
  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, pair):
    def feed_forward(name):
      return FeedForward(self.config, self.dtype, name=name)

    pair = tuple(map(sharding.by_rows, pair))
    h = _norm('self_attn_layer_norm', self.dtype)(pair)
    h = Attention(self.config, self.dtype, name='self_attn')(h)
    pair = _add(pair, h)
    h = _norm('final_layer_norm', self.dtype)(pair)
    return _add(pair, Multiway(feed_forward, name='ffn')(h)), None


class Embed(nn.Module):
  """Pixels -> class token, then the patches."""

  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, pixels):
    c = self.config
    x = patches.of(pixels, c.patch)
    x = layers.dense(c.width, name='proj', dtype=self.dtype)(x)
    cls = self.param('cls_token', layers.LOOKED_UP, (1, 1, c.width))
    cls = jnp.broadcast_to(cls.astype(x.dtype), (x.shape[0], 1, c.width))
    return jnp.concatenate([cls, x], axis=1)


class Positions(nn.Module):
  """Learned positions; both parts count from the start of their own table."""

  config: VisionConfig
  dtype: str

  @nn.compact
  def __call__(self, pair):
    c = self.config
    sizes = {
      'A': c.patches + 1 + _OFFSET,
      'B': c.query_rows or c.queries + _OFFSET,
    }

    def add(name, x):
      table = nn.Embed(
        sizes[name],
        c.width,
        dtype=self.dtype,
        embedding_init=layers.LOOKED_UP,
        name=name,
      )
      rows = table.embedding[_OFFSET : _OFFSET + x.shape[1]]
      return x + rows.astype(self.dtype)[None]

    return add('A', pair[0]), add('B', pair[1])


class Encoder(nn.Module):
  config: VisionConfig
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, pair):
    c = self.config
    pair = Positions(c, self.dtype, name='embed_positions')(pair)
    scanned = layers.stack(Layer, depth=c.depth, remat=self.remat, in_axes=())
    pair, _ = scanned(c, self.dtype, name='layers')(pair)
    return _norm('layer_norm', self.dtype)(pair)


class Beit3(nn.Module):
  """Normalised pixels, queries [queries, D] -> what they saw [B,queries,D]."""

  config: VisionConfig
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, pixels_BHWC: jax.Array, query: jax.Array) -> jax.Array:
    c = self.config
    seen = Embed(c, self.dtype, name='vision_embed')(pixels_BHWC)
    asked = query.astype(self.dtype)[None]
    asked = jnp.broadcast_to(asked, (seen.shape[0], *query.shape))
    encoder = Encoder(c, self.dtype, self.remat, name='encoder')
    return encoder((seen, asked))[1]


def _norm(name: str, dtype: str) -> Multiway:
  def make(name):
    return layers.LayerNorm(dtype, name=name)

  return Multiway(make, name=name)


def _add(pair, other):
  return pair[0] + other[0], pair[1] + other[1]
