"""Spotting: what of each sentence is wrong, and how much of an answer."""

import jax
import jax.numpy as jnp
import optax

from rlhfv_jax.metrics import Mean


def spotting_loss(logits: jax.Array, labels: jax.Array) -> dict[str, Mean]:
  """Cross-entropy of logits [B,L,K] for K kinds of mistakes.

  labels i8[B,L,K]: 1 where a mistake of the kind was made, 0 where it was not,
  -1 where nothing is asked.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  wrong, asked = labels > 0, labels >= 0
  logits = jnp.where(asked, logits, 0)
  right = ((logits > 0) == wrong).astype(logits.dtype)
  sure = jnp.where(wrong, logits, -logits)
  return {
    'loss': Mean.of(-jax.nn.log_sigmoid(sure), where=asked),
    'accuracy/wrong': Mean.of(right, where=wrong),
    'accuracy/right': Mean.of(right, where=asked & ~wrong),
  }


def counting_loss(
  told: jax.Array, counts: jax.Array, valid: jax.Array
) -> dict[str, Mean]:
  """How far [B,C,2], wrong claims and right ones, is from their counts.

  Squared up to one claim, beyond it as it is. Rows [B] count where valid.
  """
  told = told.astype(jnp.promote_types(told.dtype, jnp.float32))
  there = jnp.broadcast_to(valid[:, None, None], told.shape)
  told = jnp.where(there, told, 0)
  off = jnp.abs(told - counts)
  return {
    'loss': Mean.of(optax.huber_loss(told, counts), where=there),
    'off/wrong': Mean.of(off[..., 0], where=there[..., 0]),
    'off/right': Mean.of(off[..., 1], where=there[..., 1]),
  }
