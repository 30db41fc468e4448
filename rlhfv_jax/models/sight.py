"""Who sees whom in a row, and the ways to compute it, one for each chip.

A bucket's pattern is static, trunk and branches; padding is told by its ids.
So TPUs skip the blocks that nobody sees (splash), GPUs compute the trunk once
and each branch against it (split), and CPUs take long rows in stretches of
queries, each with the keys that it may see. Padding may see padding there:
nobody reads it, and no gradient comes back from it.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from rlhfv_jax import batch as rows
from rlhfv_jax import sharding

WAYS = ('auto', 'xla', 'splash', 'split', 'stretches')
LANES = 128  # blocks of the kernel are whole multiples of it
STRETCH = 320  # queries
LONG = 128  # tokens, for which stretches are worth their calls


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['branch'],
  meta_fields=['bucket', 'way'],
)
@dataclasses.dataclass(frozen=True)
class Sight:
  """What a mask says, before it is one: `batch.layout`'s branch i32[B,L]."""

  branch: jax.Array
  bucket: rows.Bucket
  way: str


def of(
  branch: jax.Array, bucket: rows.Bucket, way: str = 'auto'
) -> jax.Array | Sight:
  """What `layers.attention` is told: a mask, or all that makes one."""
  if way == 'auto':
    plain = 'stretches' if bucket.length >= LONG else 'xla'
    way = {'tpu': 'splash', 'gpu': 'split'}.get(sharding.platform(), plain)
  if way == 'xla':
    return rows.mask(branch)
  return Sight(branch, bucket, way)


def attend(
  q: jax.Array, k: jax.Array, v: jax.Array, seen: Sight, plain: Callable
) -> jax.Array:
  """[B,L,N,K] and [B,L,G,K] twice -> [B,L,N*K]; `plain` is told a mask."""
  if seen.way == 'stretches':
    return stretches(q, k, v, seen, plain)
  out = {'splash': splash, 'split': split}[seen.way](q, k, v, seen)
  return out.reshape(*out.shape[:2], -1)


def stretches(
  q_BLNK: jax.Array,
  k_BLGK: jax.Array,
  v_BLGK: jax.Array,
  seen: Sight,
  plain: Callable,
) -> jax.Array:
  """Without what no query of a stretch sees: half of a causal mask, and more
  of one with branches."""
  trunk, rest, _ = seen.bucket
  mask = rows.mask(seen.branch)
  out = []
  for start in range(0, trunk, STRETCH):
    end = min(start + STRETCH, trunk)
    out.append(
      plain(
        q_BLNK[:, start:end], k_BLGK[:, :end], v_BLGK[:, :end],
        mask[:, :, start:end, :end],
      )
    )  # fmt: skip
  for start in range(trunk, seen.bucket.length, max(rest, 1)):
    end = start + rest
    keys = lambda x, start=start, end=end: jnp.concatenate(
      [x[:, :trunk], x[:, start:end]], axis=1
    )
    own = mask[:, :, start:end]
    own = jnp.concatenate([own[..., :trunk], own[..., start:end]], axis=-1)
    out.append(plain(q_BLNK[:, start:end], keys(k_BLGK), keys(v_BLGK), own))
  return jnp.concatenate(out, axis=1)


def splash(
  q_BLNK: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array, seen: Sight
) -> jax.Array:
  """JAX's block-sparse kernel for TPUs; elsewhere it is interpreted."""
  length = -(-q_BLNK.shape[1] // LANES) * LANES
  spare = length - q_BLNK.shape[1]
  mask = _static(seen.bucket, length)
  mesh = jax.sharding.get_abstract_mesh()
  interpret = sharding.platform() != 'tpu'

  def shard(q, k, v, words):
    kernel = _kernel(mask, q.shape[1], interpret)
    one = lambda q, k, v, w: kernel(q, k, v, segment_ids=_segments(w))
    return jax.vmap(one)(q, k, v, words)

  heads = lambda x: jnp.pad(
    x.transpose(0, 2, 1, 3), ((0, 0), (0, 0), (0, spare), (0, 0))
  )
  words = jnp.pad(seen.branch >= 0, ((0, 0), (0, spare))).astype(jnp.int32)
  q = heads(q_BLNK * q_BLNK.shape[-1] ** -0.5)
  if not mesh.empty:
    lie = P(sharding.BATCH[0], 'tensor')
    shard = jax.shard_map(
      shard, in_specs=(lie,) * 3 + (sharding.BATCH,), out_specs=lie,
      check_vma=False,
    )  # fmt: skip
  out = shard(q, heads(k_BLGK), heads(v_BLGK), words)
  return out[:, :, : q_BLNK.shape[1]].transpose(0, 2, 1, 3)


def split(
  q_BLNK: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array, seen: Sight
) -> jax.Array:
  """Two calls that fit a GPU's fused kernels, and skip what nobody sees.

  The trunk is causal; the branches are rows of their own, of R queries to the
  trunk and themselves.
  """
  trunk, rest, answers = seen.bucket
  words = seen.branch >= 0
  fused = 'cudnn' if sharding.platform() == 'gpu' else None
  call = functools.partial(jax.nn.dot_product_attention, implementation=fused)
  # An empty row has nothing to see: it sees its padding.
  padded = ~words.any(1, keepdims=True)
  filled = (words | padded)[:, None, None]
  first = call(
    q_BLNK[:, :trunk], k_BLGK[:, :trunk], v_BLGK[:, :trunk],
    is_causal=True, mask=filled[..., :trunk],
  )  # fmt: skip
  if not rest:
    return first

  def branches(x):
    return x[:, trunk:].reshape(-1, rest, *x.shape[2:])

  def with_trunk(x):
    shared = jnp.repeat(x[:, :trunk], answers, axis=0)
    return jnp.concatenate([shared, branches(x)], axis=1)

  own = np.tril(np.ones((1, 1, rest, rest), bool))
  own = jnp.broadcast_to(own, (len(words) * answers, 1, rest, rest))
  shared = jnp.repeat(filled[..., :trunk], answers, axis=0)
  shared = jnp.broadcast_to(shared, (*own.shape[:3], trunk))
  then = call(
    branches(q_BLNK), with_trunk(k_BLGK), with_trunk(v_BLGK),
    mask=jnp.concatenate([shared, own], axis=-1),
  )  # fmt: skip
  then = then.reshape(len(words), answers * rest, *then.shape[2:])
  return jnp.concatenate([first, then], axis=1)


def _static(bucket: rows.Bucket, length: int) -> np.ndarray:
  """bool[length,length]: who sees whom where every slot is filled."""
  trunk, rest, answers = bucket
  slot = np.repeat(np.arange(1 + answers), [trunk] + [rest] * answers)
  slot = np.pad(slot, (0, length - len(slot)), constant_values=answers + 1)
  own = (slot[None] == 0) | (slot[None] == slot[:, None])
  return np.tril(np.ones((length, length), bool)) & own


def _kernel(mask, heads, interpret):
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernel,
  )
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask as masks,
  )

  block = next(b for b in (512, 384, 256, LANES) if len(mask) % b == 0)
  names = ('q', 'kv', 'kv_compute', 'q_dkv', 'kv_dkv', 'kv_dkv_compute',
           'q_dq', 'kv_dq')  # fmt: skip
  sizes = kernel.BlockSizes(**{f'block_{name}': block for name in names})
  return kernel.make_splash_mha(
    masks.MultiHeadMask([masks.NumpyMask(mask)] * heads),
    block_sizes=sizes, head_shards=1, q_seq_shards=1,
    residual_checkpoint_name='context', interpret=interpret,
  )  # fmt: skip


def _segments(words):
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernel,
  )

  return kernel.SegmentIds(words, words)
