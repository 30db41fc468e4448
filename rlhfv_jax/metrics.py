"""Means that add exactly: over rows, micro-batches, devices and hosts."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Mean:
  """A sum and what it is a sum over; the division comes last."""

  total: jax.Array
  count: jax.Array

  @classmethod
  def of(cls, x: jax.Array, where: jax.Array | None = None) -> Mean:
    """The mean of x over all its entries, or over those where `where` holds."""
    weight = jnp.ones_like(x) if where is None else where.astype(x.dtype)
    # A masked entry must not poison the sum, nor its gradient.
    x = x if where is None else jnp.where(weight != 0, x, 0)
    return cls((x * weight).sum(), weight.sum())

  def __add__(self, other: Mean) -> Mean:
    return Mean(self.total + other.total, self.count + other.count)

  def value(self) -> jax.Array:
    """total / count, and 0 where nothing was counted."""
    some = self.count != 0
    return jnp.where(some, self.total / jnp.where(some, self.count, 1), 0)
