"""What a rollout says of itself: the numbers of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def numbers(
  x: Mapping[str, np.ndarray],
  parts: Mapping[str, np.ndarray],
  texts: Sequence[str],
  estimator: Callable,
  beta: float,
) -> dict[str, float]:
  """Names that people know, where there are such.

  Sums over the tokens of an answer where the name says nothing else; `parts`
  are those of the rewards.
  """
  on = (x['roles'] > 0).any(axis=1)
  size = max(1, on.sum())
  row = on.any(axis=1)
  rows = max(1, row.sum())
  kl = np.where(on, np.asarray(estimator(x['logps'], x['ref_logps'])), 0)
  gap = np.where(on, x['returns'] - x['old_values'], 0)[on]
  returns = x['returns'][on]
  spread = returns.var() if len(returns) else 0.0
  told = {
    'objective/kl': kl.sum() / rows,
    'objective/kl_token': kl.sum() / size,
    'objective/kl_coef': beta,
    'objective/non_score_reward': -beta * kl.sum() / rows,
    # Of what was sampled: an estimate that costs nothing.
    'objective/entropy': -np.where(on, x['logps'], 0).sum() / size,
    'ppo/returns/mean': returns.mean() if len(returns) else 0.0,
    'ppo/returns/var': spread,
    'val/explained': 1 - gap.var() / spread if spread else 0.0,
    'answers/tokens': size / rows,
    'answers/distinct': len(set(texts)) / len(texts),
    'answers/empty': np.mean([not text.strip() for text in texts]),
  }
  told |= {
    f'objective/{name}' if name == 'rewards' else f'objective/rewards/{name}':
      part[row].mean() if row.any() else 0.0
    for name, part in parts.items()
  }  # fmt: skip
  return {name: float(value) for name, value in told.items()}
