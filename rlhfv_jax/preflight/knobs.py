"""What each knob would buy, by arithmetic on shapes: GiB a chip."""

from __future__ import annotations

import math
from typing import Any

import jax

from rlhfv_jax import optim, train
from rlhfv_jax.batch import Bucket
from rlhfv_jax.stages import problem
from rlhfv_jax.train import adapt

GIB = 2**30
OPTIMIZERS = ('adamw', 'adamw_bf16', 'muon', 'adafactor')
RANK = 64  # of the adapters that are offered


def on_a_chip(tree: Any) -> float:
  """GiB of a chip that a tree of placed shapes takes."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  ) / GIB  # fmt: skip


def states(s: problem.Setup) -> dict[str, float]:
  """Parameters and optimizer, by optimizer, and with adapters instead."""
  found, begin = {}, problem.start(s)
  params = adapt.abstract(problem.abstract_params(s), begin, s.mesh)
  for name in OPTIMIZERS:
    found[f'config.train.optimizer={name}'] = _state(
      s, params, begin.rules, name
    )
  if not begin.rank:
    for kept in ('bfloat16', 'int8'):
      lora = s.config.lora
      other = adapt.Start(kept, lora.rules, 0, RANK, lora.alpha, lora.targets)
      params = adapt.abstract(problem.abstract_params(s), other, s.mesh)
      name = f'config.lora.rank={RANK}, config.lora.base={kept}'
      found[name] = _state(s, params, other.rules, s.config.train.optimizer)
  return {k: round(v, 2) for k, v in found.items()}


def _state(s, params, rules, optimizer):
  labels = optim.labels(params, rules)
  tx = optim.optimizer(optimizer, labels)
  return on_a_chip(train.abstract_state(params, tx, labels, s.mesh))


def kept(s: problem.Setup, bucket: Bucket, rows: int) -> dict[str, float]:
  """Activations of the decoder that wait for the way back, by policy."""
  text = s.model.config.text
  shards = s.mesh.shape['data'] * s.mesh.shape['fsdp']
  tokens = rows / shards / s.config.train.micro * bucket.length
  kv = text.kv_heads * text.head_dim
  split = s.mesh.shape['tensor']
  attention = (2 * text.width + 2 * kv) / split
  products = (2 * text.mlp) / split + 2 * text.width
  widths = {
    'full': text.width,
    'attention': text.width + attention,
    'dots': text.width + attention + products,
  }
  bytes_each = 4 if s.model.config.dtype == 'float32' else 2
  return {
    f'config.model.remat={k}': round(
      v * tokens * text.depth * bytes_each / GIB, 2
    )
    for k, v in widths.items()
  }
