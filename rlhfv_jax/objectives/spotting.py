"""Spotting: at the last word of each sentence, what of it is wrong."""

import jax
import jax.numpy as jnp

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
