"""The original form of PPO: answers padded to `size` slots, and all count.

Padding has a role like words and a log-prob of 0; `objectives/ppo_original.py`
has the maths, on the slots of the answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax.metrics import Mean
from rlhfv_jax.objectives import ppo, ppo_original


def finish(
  answers: Sequence[np.ndarray],
  *,
  size: int,
  ends: Sequence[int],
  questions: Sequence[int],
) -> list[np.ndarray]:
  """Cut at their end and at a question mark, and padded."""
  tokens = np.full((len(answers), size), ppo_original.PAD, np.int32)
  for row, answer in zip(tokens, answers, strict=True):
    row[: len(answer)] = answer
  for end in ends:
    tokens = ppo_original.cut(tokens, end=end, questions=questions)
  return list(tokens)


def targets(
  x: Mapping[str, jax.Array],
  *,
  beta: jax.Array,
  gamma: float,
  lam: float,
  kl: str,
  size: int,
) -> dict[str, jax.Array]:
  """As in `sound.py`; the estimator of KL is the original's own."""
  place = _slots(x['lengths'], size)
  padding = _pick(x['tokens'], place) == ppo_original.PAD
  logps, ref_logps = (
    jnp.where(padding, 0, _pick(x[name], place))
    for name in ('logps', 'ref_logps')
  )
  values = _pick(x['values'], place)
  apart = ppo_original.kl(logps, ref_logps)
  rewards = ppo_original.rewards(x['scores'], apart, beta=beta)
  found, returns = ppo_original.advantages(
    rewards, values, gamma=gamma, lam=lam
  )
  row = jnp.arange(len(place))[:, None]
  back = lambda some: jnp.zeros_like(x['values']).at[row, place].set(some)
  return {
    'advantages': back(ppo_original.whiten(found)), 'returns': back(returns)
  }  # fmt: skip


def loss(
  logps: jax.Array,
  values: jax.Array,
  batch: Mapping[str, jax.Array],
  hyper: Mapping[str, jax.Array],
  *,
  size: int,
) -> dict[str, Mean]:
  place = _slots(batch['lengths'], size)
  padding = _pick(batch['tokens'], place) == ppo_original.PAD
  logps, old_logps = (
    jnp.where(padding, 0, _pick(some, place))
    for some in (logps, batch['old_logps'])
  )
  policy = ppo_original.policy_loss(
    logps, old_logps, _pick(batch['advantages'], place), clip=hyper['clip']
  )
  value = ppo_original.value_loss(
    _pick(values, place),
    _pick(batch['old_values'], place),
    _pick(batch['returns'], place),
    clip=hyper['value_clip'],
  )
  return ppo.total(policy, value, value_coef=hyper['value_coef'])


def _slots(lengths: jax.Array, size: int) -> jax.Array:
  """i32[B,size]: where the answers stand, at the ends of their rows."""
  return jnp.maximum(lengths[:, :1] - size, 0) + jnp.arange(size)[None]


def _pick(x: jax.Array, place: jax.Array) -> jax.Array:
  return jnp.take_along_axis(x, place, axis=1)
