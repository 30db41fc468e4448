"""Supervised fine-tuning: the likelihood of one answer."""

import jax
import jax.numpy as jnp

from rlhfv_jax.metrics import Mean


def sft_loss(logps: jax.Array, roles: jax.Array) -> dict[str, Mean]:
  """[B,L], [B,C,L]: the mean negative log-likelihood of a scored token.

  Of several answers the first counts, which in a pair is the chosen one. The
  mean is over tokens, so long answers weigh more than short ones.
  """
  logps = logps.astype(jnp.promote_types(logps.dtype, jnp.float32))
  return {'loss': Mean.of(-logps, where=roles[:, 0] > 0)}
