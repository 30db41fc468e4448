"""Floating-point operations a pair, counted as people count a model's.

Matrix products alone, each visible key of a query once; nothing for padding,
for what is masked, or for what is computed again to save memory.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from launch.speed.sizes import Size

# bfloat16 products a second of a chip, without sparsity.
PEAK = {
  'NVIDIA H100': 989e12,
  'NVIDIA H200': 989e12,
  'NVIDIA A100': 312e12,
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5p': 459e12,
  'TPU v5': 459e12,
  'TPU v6': 918e12,
}


def pair(size: Size, *, shared: bool = True) -> float:
  """Of one step: forward, and back to whatever is trained."""
  trunk, answer = size.trunk, size.answer
  tokens = trunk + 2 * answer if shared else 2 * (trunk + answer)
  decoder = 2 * _kernels(size) * tokens + attention(size, shared)
  decoder += 2 * _head(size) * 2 * answer
  tower = _tower(size) * (1 if shared else 2)
  if not size.rank:
    return 3 * (decoder + tower)
  # A frozen kernel has no gradient of its own, and the tower none at all; in
  # attention both factors of a product have one.
  going = 2 * decoder + attention(size, shared)
  return going + 6 * _adapters(size) * tokens + tower


def _kernels(size):
  """Numbers of the decoder's kernels."""
  c = size.config.text
  narrow = c.kv_heads * c.head_dim
  attention = 2 * c.width * c.width + 2 * c.width * narrow
  return c.depth * (attention + 3 * c.width * c.mlp)


def _adapters(size):
  c = size.config.text
  narrow = c.kv_heads * c.head_dim
  sides = 2 * (2 * c.width) + 2 * (c.width + narrow) + 3 * (c.width + c.mlp)
  return size.rank * c.depth * sides


def attention(size: Size, shared: bool) -> float:
  """Of the decoder, where a query meets what it sees and nothing else."""
  c = size.config.text
  up_to = lambda n: n * (n + 1) / 2
  trunk, answer = size.trunk, size.answer
  seen = 2 * (answer * trunk + up_to(answer))
  seen += up_to(trunk) * (1 if shared else 2)
  return 4 * c.depth * c.width * seen


def _head(size):
  return size.config.text.width * size.config.text.vocab_size


def _tower(size):
  """Of a picture: what is read out by queries meets them in every layer."""
  c, v = size.config, size.config.vision
  parts = v.patches + 1 + v.queries
  depth = v.depth if v.queries else v.depth + 1 + v.layer
  layer = 2 * parts * (4 * v.width**2 + 2 * v.width * v.mlp)
  layer += 4 * v.width * parts**2
  joint = v.width * c.text.width
  if c.connector == 'mlp2x':
    joint += c.text.width**2
  embed = 2 * v.patches * 3 * v.patch**2 * v.width
  return depth * layer + embed + 2 * v.tokens * joint


def peak(kind: str) -> float | None:
  """What a device's maker promises, or None for one that is not listed."""
  found = [k for k in PEAK if kind.startswith(k)]
  return PEAK[max(found, key=len)] if found else None


def measured(dtype: str, side: int) -> float:
  """What large products of random matrices reach here, a second."""
  key = jax.random.key(0)
  a = jax.random.normal(key, (side, side), jnp.dtype(dtype))
  product = jax.jit(jnp.matmul)
  best = float('inf')
  for _ in range(4):
    begun = time.perf_counter()
    jax.block_until_ready(product(a, a))
    best = min(best, time.perf_counter() - begun)
  return 2 * side**3 / best
