"""Low-rank adapters (arXiv 2106.09685), in the tree of parameters itself.

Beside a kernel [..,I,O] stand lora_a [..,I,r], lora_b [..,r,O] and lora_scale
[..]: `layers.Dense` adds (x A) B scale where it finds them.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

Params = Mapping[str, Any]

LEAVES = ('lora_a', 'lora_b', 'lora_scale')


def init(
  params: Params, key: jax.Array, *, rank: int, alpha: float, targets: str
) -> dict[str, Any]:
  """Fresh adapters for the linear maps that a regex names, as peft has them.

  Float32, A uniform and B zero: at first they change nothing. Of `params` only
  shapes matter. A map's numbers do not depend on which others are named.
  """
  if rank < 1:
    raise ValueError(f'adapters of rank {rank}: choose at least 1')
  made = {}
  for name, kernel in _kernels(params, targets).items():
    *stack, inputs, outputs = kernel.shape
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    bound = inputs**-0.5
    made[f'{name}/lora_a'] = jax.random.uniform(
      own, (*stack, inputs, rank), jnp.float32, -bound, bound
    )
    made[f'{name}/lora_b'] = jnp.zeros((*stack, rank, outputs))
    made[f'{name}/lora_scale'] = jnp.full(stack, alpha / rank, jnp.float32)
  return unflatten_dict(made, sep='/')


def attach(
  params: Params, key: jax.Array, *, rank: int, alpha: float, targets: str
) -> dict[str, Any]:
  """The parameters with fresh adapters beside them."""
  return join(
    params, init(params, key, rank=rank, alpha=alpha, targets=targets)
  )


def join(params: Params, adapters: Params) -> dict[str, Any]:
  """Two trees as one; of a leaf that both have, that of the adapters counts."""
  both = flatten_dict(params) | flatten_dict(adapters)
  return unflatten_dict(both)


def adapters(params: Params) -> dict[str, Any]:
  """The leaves of the adapters alone; empty where there are none."""
  flat = flatten_dict(params)
  return unflatten_dict({k: v for k, v in flat.items() if k[-1] in LEAVES})


def merge(params: Params) -> dict[str, Any]:
  """W + A B scale in place of each adapted W: the plain model, as wide."""
  flat = flatten_dict(params)
  plain = {k: v for k, v in flat.items() if k[-1] not in LEAVES}
  return unflatten_dict(plain | _moved(flat, flat, 1))


def unmerge(params: Params, adapters: Params) -> dict[str, Any]:
  """The inverse of `merge`, up to rounding."""
  flat, own = flatten_dict(params), flatten_dict(adapters)
  return unflatten_dict(flat | own | _moved(flat, own, -1))


def _moved(flat, adapters, sign):
  """Kernels with their adapters added, or taken away again."""
  moved = {}
  for *at, leaf in adapters:
    if leaf == 'lora_a':
      a, b, scale = (adapters[*at, leaf] for leaf in LEAVES)
      kernel = flat[*at, 'kernel']
      if (*at, 'kernel_scale') in flat:
        raise ValueError(
          f'{"/".join(at)}: an {kernel.dtype} kernel cannot take its adapters '
          'in: quantize.dequantize first'
        )
      exact = jnp.promote_types(kernel.dtype, jnp.float32)
      delta = jnp.matmul(a, b, precision='highest') * scale[..., None, None]
      whole = kernel.astype(exact) + sign * delta
      moved[*at, 'kernel'] = whole.astype(kernel.dtype)
  return moved


def _kernels(params, targets):
  """Linear map -> kernel, of those that the regex names."""
  flat = flatten_dict(params, sep='/')
  kernels = {
    name.removesuffix('/kernel'): kernel
    for name, kernel in flat.items()
    # The head computes in another way.
    if name.endswith('/kernel') and not name.endswith('lm_head/kernel')
  }
  found = {k: v for k, v in kernels.items() if re.fullmatch(targets, k)}
  if not found:
    raise ValueError(
      f'adapters for {targets!r}: no linear map has such a name; they are '
      f'named like {next(iter(kernels), "nothing here")}'
    )
  return found
