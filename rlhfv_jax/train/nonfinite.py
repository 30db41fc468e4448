"""The first number that is not finite: named, with its rows, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import hosts, optim
from rlhfv_jax.files import atomic
from rlhfv_jax.sharding import path_name


class NonFinite(RuntimeError):
  """Training met a number that is not finite and stopped before using it."""


def explain(
  loss, params: Any, batch: Any, hyper: Any, *, labels: Any = None
) -> str:
  """Which tensor is bad first: of batch, parameters, loss, gradients.

  Gradients are those of what the labels do not freeze; without labels, all.
  """
  for what, tree in [('batch', batch), ('parameter', params)]:
    if name := first_bad(tree):
      return f'{what} {name} is not finite'
  if labels is None:
    labels = jax.tree.map(lambda _: optim.TRAINED, params)
  parts = optim.split(params, labels)
  total = lambda trained, frozen, batch: (
    loss(optim.merge(trained, frozen), batch, hyper)['loss'].total
  )
  gradients = jax.value_and_grad(total)
  value, grads = jax.jit(gradients)(*parts, batch)
  values_bad, grads_bad = bad_rows(gradients, parts, batch)
  index = hosts.whole(batch['index'])
  if not jnp.isfinite(value):
    return (
      f'the loss is not finite, from rows {index[values_bad].tolist()} of the '
      'data'
    )
  return (
    f'the gradient of {first_bad(grads)} is not finite, from rows '
    f'{index[grads_bad].tolist()} of the data'
  )


def first_bad(tree: Any) -> str | None:
  """The name of the first leaf with a NaN or an infinity."""
  for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    if floating and not bool(jnp.isfinite(x).all()):
      return path_name(path)
  return None


def bad_rows(
  gradients, parts: tuple[Any, Any], batch: Any
) -> tuple[list[int], list[int]]:
  """Rows that alone, all others counting nothing, give a bad loss; gradient."""

  @jax.jit
  def alone(parts, row):
    only = (jnp.arange(batch['roles'].shape[0]) == row)[:, None, None]
    part = jax.tree.map(lambda x: x, batch)
    part['roles'] = jnp.where(only, batch['roles'], 0)
    value, grads = gradients(*parts, part)
    leaves = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
    return jnp.isfinite(value), jnp.stack(leaves).all()

  fine = [alone(parts, row) for row in range(batch['roles'].shape[0])]
  return tuple(
    [row for row, told in enumerate(fine) if not told[k]] for k in (0, 1)
  )


def save_replay(path: str | Path, step: int, batch: Any, hyper: Any) -> None:
  """The batch and the hyper-parameters of the bad step, for `load_replay`."""
  arrays = {f'batch/{k}': hosts.whole(v) for k, v in batch.items()}
  arrays |= {f'hyper/{k}': np.asarray(v) for k, v in hyper.items()}
  with atomic(path) as tmp, open(tmp, 'wb') as f:
    np.savez(f, step=step, bucket=batch.bucket, **arrays)
