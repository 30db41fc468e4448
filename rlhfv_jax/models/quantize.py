"""Kernels in eight bits: whole steps of a size that each output has its own."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

Params = Mapping[str, Any]

# The layers of the decoder. Words, head, tower and connector are a small part
# of a large model, and more sensitive.
KERNELS = r'.*language_model/layers/.*/kernel'


def to_int8(params: Params, rules: str = KERNELS) -> dict[str, Any]:
  """Kernels that a regex names as int8, each with its `kernel_scale`."""
  flat = flatten_dict(params, sep='/')
  for name, x in list(flat.items()):
    if x is not None and re.fullmatch(rules, name) and x.dtype != jnp.int8:
      flat[name], flat[f'{name}_scale'] = rounded(x)
  return unflatten_dict(flat, sep='/')


def dequantize(params: Params, dtype: Any = jnp.float32) -> dict[str, Any]:
  """The inverse of `to_int8`, up to half a step."""
  flat = flatten_dict(params, sep='/')
  for name in [k for k in flat if k.endswith('kernel_scale')]:
    steps, kernel = flat.pop(name), name.removesuffix('_scale')
    whole = flat[kernel].astype(jnp.float32)
    flat[kernel] = (whole * steps[..., None, :]).astype(dtype)
  return unflatten_dict(flat, sep='/')


def rounded(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[..,I,O] -> int8 [..,I,O] and float32 [..,O]: 127 steps to the largest."""
  kernel = kernel.astype(jnp.float32)
  steps = jnp.abs(kernel).max(-2) / 127
  whole = kernel / jnp.where(steps > 0, steps, 1)[..., None, :]
  return jnp.round(whole).astype(jnp.int8), steps
