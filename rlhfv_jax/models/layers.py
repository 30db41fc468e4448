"""The parts that the towers share: norms, attention, rotary positions, SwiGLU.

Names may end in axes: B batch, C answers, L tokens, S tokens attended to,
P image tokens, D width, N heads, G key-value heads, K head dim, F feed-forward,
V vocabulary. Parameters are float32; `dtype` is what is computed in. Norms,
softmax and rotations are at least float32 inside.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import sharding
from rlhfv_jax.models import sight

MULTIPLIED = nn.initializers.lecun_normal()
# What is looked up rather than multiplied: words, positions, queries.
LOOKED_UP = nn.initializers.truncated_normal(0.5)
WRITTEN_OUT = 16  # layers at most that a CPU has after each other, in no loop


def upcast(x: jax.Array) -> jax.Array:
  """At least float32; float64 stays."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Dense(nn.Module):
  """x W + b, of whatever its parameters are.

  An int8 kernel brings `kernel_scale`, the step of each output; adapters
  `lora_a`, `lora_b` and `lora_scale` add (x A) B scale (arXiv 2106.09685).
  """

  features: int
  dtype: str
  bias: bool = True
  scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.initializers.variance_scaling(
      self.scale**2, 'fan_in', 'truncated_normal'
    )
    kernel = self.param('kernel', init, (x.shape[-1], self.features))
    x = x.astype(self.dtype)
    if self.has_variable('params', 'kernel_scale'):
      # Cast before the product, all layers would keep it for the way back.
      step = self.get_variable('params', 'kernel_scale')
      out = upcast(product(x, kernel))
      out = (out * _across(step, out)).astype(self.dtype)
    else:
      out = product(x, kernel.astype(self.dtype))
    if self.bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
      out = out + _across(bias.astype(self.dtype), out)
    if self.has_variable('params', 'lora_a'):
      out = out + self._adapted(x)
    return out

  def _adapted(self, x):
    a, b, scale = (
      self.get_variable('params', f'lora_{k}') for k in ('a', 'b', 'scale')
    )
    x = upcast(product(x, a.astype(self.dtype))) * scale
    return product(x.astype(self.dtype), b.astype(self.dtype))


def dense(
  features: int,
  *,
  name: str | None = None,
  dtype: str,
  bias: bool = True,
  scale: float = 1.0,
) -> Dense:
  """A linear map; `scale` lets the last one before a residual start smaller."""
  return Dense(features, dtype, bias, scale, name=name)


def product(
  x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None = None
) -> jax.Array:
  """x W, summed in `dtype`, by default that of x.

  On a CPU a product of two matrices: over [B,L,D] its gradient takes twice. A
  TPU would copy [B,L,D] into rows where no tile of 8 divides L, as after CLIP.
  """
  dtype = dtype or x.dtype
  if sharding.platform() != 'cpu':
    inner = ((x.ndim - 1,), (0,)), ((), ())
    return jax.lax.dot_general(x, kernel, inner, preferred_element_type=dtype)
  flat = x.reshape(-1, x.shape[-1])
  out = jax.lax.dot(flat, kernel, preferred_element_type=dtype)
  return out.reshape(*x.shape[:-1], -1)


class RMSNorm(nn.Module):
  """x / rms(x) * weight (arXiv 1910.07467)."""

  eps: float
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    weight = self.param('weight', nn.initializers.ones, x.shape[-1:])
    x = upcast(x)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + self.eps)
    return (x * _across(weight, x)).astype(self.dtype)


class LayerNorm(nn.Module):
  """(x - mean(x)) / std(x) * weight + bias (arXiv 1607.06450)."""

  dtype: str
  eps: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    weight = self.param('weight', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    x = upcast(x)
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + self.eps)
    return (x * _across(weight, x) + _across(bias, x)).astype(self.dtype)


def _across(weight: jax.Array, x: jax.Array) -> jax.Array:
  return jnp.expand_dims(weight, tuple(range(x.ndim - 1)))


class SwiGLU(nn.Module):
  """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

  hidden: int
  dtype: str
  scale: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    gate = dense(self.hidden, name='gate_proj', dtype=self.dtype, bias=False)(x)
    up = dense(self.hidden, name='up_proj', dtype=self.dtype, bias=False)(x)
    return dense(
      width, name='down_proj', dtype=self.dtype, bias=False, scale=self.scale
    )(nn.silu(gate) * up)


def split_heads(x_BLD: jax.Array, heads: int) -> jax.Array:
  """[B,L,D] -> [B,L,N,K]."""
  return x_BLD.reshape(*x_BLD.shape[:2], heads, -1)


def attention(
  q_BLNK: jax.Array,
  k_BSGK: jax.Array,
  v_BSGK: jax.Array,
  mask: jax.Array | sight.Sight | None = None,
) -> jax.Array:
  """softmax(q k / sqrt(K)) v over the S that bool[B,1,L,S] shows -> [B,L,N*K].

  Heads share keys in groups of N / G. The division comes after the values, on
  K numbers a query instead of S: half the time of a softmax on a CPU. A `Sight`
  in place of the mask asks for another way.
  """
  if isinstance(mask, sight.Sight):
    return sight.attend(q_BLNK, k_BSGK, v_BSGK, mask, attention)
  batch, length, heads, size = q_BLNK.shape
  groups, share = k_BSGK.shape[2], heads // k_BSGK.shape[2]
  q = (q_BLNK * size**-0.5).reshape(batch, length, groups, share, size)
  q = q.transpose(0, 2, 3, 1, 4).reshape(batch, groups, share * length, size)
  k, v = k_BSGK.transpose(0, 2, 3, 1), v_BSGK.transpose(0, 2, 1, 3)
  exact = jnp.promote_types(q.dtype, jnp.float32)
  logits = jnp.matmul(q, k, preferred_element_type=exact)
  if mask is not None:
    hidden = jnp.tile(~mask, (1, 1, share, 1))
    logits = jnp.where(hidden, jnp.finfo(exact).min, logits)
  top = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
  weights = jnp.exp(logits - top)
  out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=exact)
  out = (out / weights.sum(-1, keepdims=True)).astype(q.dtype)
  out = out.reshape(batch, heads, length, size).transpose(0, 2, 1, 3)
  return out.reshape(batch, length, heads * size)


def attention_of_one(
  q_B1NK: jax.Array,
  parts: Sequence[tuple[jax.Array, jax.Array, jax.Array]],
) -> jax.Array:
  """One token a row over all parts (k [P,G,K,S], v [P,G,S,K], mask [B,S]).

  Neighbours share keys where P is less than B. One softmax over the parts is
  what attention to their concatenation would be, which would copy them.
  """
  batch, _, heads, size = q_B1NK.shape
  exact = jnp.promote_types(q_B1NK.dtype, jnp.float32)
  q, seen = q_B1NK * size**-0.5, []
  for k, _, mask in parts:
    rows, groups = k.shape[:2]
    shape = (rows, batch // rows, groups, heads // groups, size)
    one = q.reshape(shape).swapaxes(1, 2).reshape(rows, groups, -1, size)
    logits = jnp.matmul(one, k, preferred_element_type=exact)
    logits = logits.reshape(rows, groups, *shape[1::2], -1)
    mask = mask.reshape(rows, 1, batch // rows, 1, -1)
    seen.append(jnp.where(mask, logits, jnp.finfo(exact).min))

  def by_row(x):  # [P,G,B/P,N/G,...] -> [B,N,...]
    return x.swapaxes(1, 2).reshape(batch, heads, *x.shape[4:])

  def by_part(x, like):
    rows, groups, each, share, _ = like.shape
    return x.reshape(rows, each, groups, share, 1).swapaxes(1, 2)

  top = functools.reduce(jnp.maximum, [by_row(x.max(-1)) for x in seen])
  total, out = 0, 0
  for logits, (_, v, _) in zip(seen, parts, strict=True):
    weights = jnp.exp(logits - by_part(top, logits))
    total += by_row(weights.sum(-1))
    flat = weights.reshape(*v.shape[:2], -1, v.shape[2]).astype(v.dtype)
    some = jnp.matmul(flat, v, preferred_element_type=exact)
    out += by_row(some.reshape(*weights.shape[:4], size))
  out = (out / total[..., None]).astype(q_B1NK.dtype)
  return out.reshape(batch, 1, heads * size)


def rotary_angles(
  position_BL: jax.Array, rates: np.ndarray
) -> tuple[jax.Array, jax.Array]:
  """cos and sin [B,L,1,K/2]; rates are radians a position [K/2].

  They leave as one array through a barrier: else a CPU's compiler has every
  head of every layer compute them anew.
  """
  angle = (position_BL[..., None] * rates[None, None])[:, :, None]
  both = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
  cos, sin = jnp.split(jax.lax.optimization_barrier(both), 2, axis=-1)
  return cos, sin


def rotate(x_BLNK: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Turn the pairs (i, i + K/2), the order of Hugging Face's Llama."""
  cos, sin = angles
  a, b = jnp.split(upcast(x_BLNK), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
  return turned.astype(x_BLNK.dtype)


def stack(
  layer: type[nn.Module], *, depth: int, remat: str, in_axes: tuple
) -> Callable[..., nn.Module]:
  """`depth` layers as one scan, their parameters stacked [depth, ...].

  A layer maps (x, *others) to (x, out); `in_axes` says which of the others
  differ between layers. What is kept for the way back is a choice of memory
  against time: all ('none' is made again), what products gave ('dots'), the
  inputs of attention and what it gave ('attention'), or nothing but the inputs
  of layers ('full' is made again).

  Where all is kept, a CPU has a few layers written out: a loop would copy all
  of it into one array a kind, which is zeroed before, and out again.
  """
  kept = remat == 'none' and sharding.platform() == 'cpu'
  unroll = depth if kept and depth <= WRITTEN_OUT else 1
  if remat != 'none':
    policies = jax.checkpoint_policies
    policy = {
      'full': policies.nothing_saveable,
      'attention': policies.save_only_these_names('q', 'k', 'v', 'context'),
      'dots': policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable,
        policies.save_only_these_names('context'),
      ),
    }[remat]
    layer = nn.remat(layer, prevent_cse=False, policy=policy)
  return nn.scan(
    layer,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    in_axes=in_axes,
    length=depth,
    unroll=unroll,
  )
