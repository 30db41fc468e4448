"""Floating-point operations, by formula and by counting those of a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rlhfv_jax.batch import Bucket
from rlhfv_jax.models import VLMConfig


def forward(
  c: VLMConfig, bucket: Bucket, *, scored: int, dense: bool = False
) -> dict[str, float]:
  """Of one row: two for each product of two numbers, and nothing else.

  `scored` tokens reach the head. Attention counts who is seen, as the published
  rates of utilisation do, or with `dense` every pair.
  """
  text, length = c.text, bucket.length
  kv = text.kv_heads * text.head_dim
  layer = 2 * text.width * (text.width + kv) + 3 * text.width * text.mlp
  seen = length**2 if dense else visible(bucket)
  found = {
    'decoder': 2.0 * text.depth * layer * length,
    'attention': 4.0 * text.depth * text.width * seen,
    'head': 2.0 * scored * text.width * text.vocab_size,
  }
  if c.vision is not None:
    found |= _sight(c)
  return found


def _sight(c):
  v, text = c.vision, c.text
  depth = v.depth + 1 + v.layer if v.kind == 'clip' else v.depth
  tokens = v.patches + 1 + v.queries
  layer = 2 * (4 * v.width**2 + 2 * v.width * v.mlp) * tokens
  layer += 4 * v.width * tokens**2
  patches = 2 * 3 * v.patch**2 * v.width * v.patches
  maps = v.width * text.width
  maps += text.width**2 if c.connector == 'mlp2x' else 0
  return {
    'tower': float(depth * layer + patches),
    'connector': 2.0 * maps * v.tokens,
  }


def visible(bucket: Bucket) -> int:
  """Pairs of tokens of which one sees the other, where all slots are filled."""
  trunk, rest, answers = bucket
  causal = lambda n: n * (n + 1) // 2
  return causal(trunk) + answers * (trunk * rest + causal(rest))


def step(
  parts: dict[str, float],
  *,
  frozen: tuple[str, ...] = (),
  adapted: bool = False,
) -> float:
  """With the way back: twice the way there, or once where weights stay."""
  total = 0.0
  for name, flops in parts.items():
    if name == 'attention':
      back = 2
    elif name in frozen:
      back = 0
    else:
      back = 1 if adapted else 2
    total += flops * (1 + back)
  return total


def count(f: Callable, *args: Any) -> float:
  """Of the products in what JAX traces, each as often as it runs."""
  return _count(jax.make_jaxpr(f)(*args).jaxpr)


def _count(jaxpr):
  total = 0.0
  for eqn in jaxpr.eqns:
    name, p = eqn.primitive.name, eqn.params
    if name == 'dot_general':
      (left, _), _ = p['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      shared = math.prod(np.take(shape, left)) if left else 1
      total += 2.0 * shared * math.prod(eqn.outvars[0].aval.shape)
      continue
    if name == 'cond':
      total += max(_count(branch.jaxpr) for branch in p['branches'])
      continue
    times = p['length'] if name == 'scan' else 1
    for value in p.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        total += times * _count(inner)
  return total
