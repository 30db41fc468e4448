"""The sound form of PPO: every word of an answer counts once, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from rlhfv_jax.batch import scored
from rlhfv_jax.metrics import Mean
from rlhfv_jax.objectives import ppo


def finish(
  answers: Sequence[np.ndarray],
  *,
  size: int,
  ends: Sequence[int],
  questions: Sequence[int],
) -> list[np.ndarray]:
  """Answers as they were sampled, with the token that ends them."""
  return list(answers)


def targets(
  x: Mapping[str, jax.Array],
  *,
  beta: jax.Array,
  gamma: float,
  lam: float,
  kl: str,
  size: int,
) -> dict[str, jax.Array]:
  """What is trained on, from roles, scores, logps, ref_logps and values."""
  mask = scored(x['roles'])
  apart = ppo.KL[kl](x['logps'], x['ref_logps'])
  rewards = ppo.rewards(x['scores'], apart, mask, beta=beta)
  found, returns = ppo.advantages(
    rewards, x['values'], mask, gamma=gamma, lam=lam
  )
  return {'advantages': ppo.whiten(found, mask), 'returns': returns}


def loss(
  logps: jax.Array,
  values: jax.Array,
  batch: Mapping[str, jax.Array],
  hyper: Mapping[str, jax.Array],
  *,
  size: int,
) -> dict[str, Mean]:
  mask = scored(batch['roles'])
  policy = ppo.policy_loss(
    logps, batch['old_logps'], batch['advantages'], mask, clip=hyper['clip']
  )
  value = ppo.value_loss(
    values, batch['old_values'], batch['returns'], mask,
    clip=hyper['value_clip'],
  )  # fmt: skip
  return ppo.total(policy, value, value_coef=hyper['value_coef'])
