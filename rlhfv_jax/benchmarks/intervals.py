"""Rates and ratios with the intervals that their sample size allows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def rate(hits: Sequence[bool], *, level: float = 0.95) -> dict:
  """The share of hits, with Wilson's score interval."""
  n, k = len(hits), sum(map(bool, hits))
  low, high = wilson(k, n, level=level)
  return {'value': k / n if n else 0.0, 'low': low, 'high': high, 'n': n}


def wilson(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
  """Wilson (1927): the rates at which k of n would be no surprise."""
  if n == 0:
    return 0.0, 1.0
  z = NormalDist().inv_cdf((1 + level) / 2)
  p = k / n
  centre = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) * z / (1 + z * z / n)
  low = 0.0 if k == 0 else float(centre - half)
  high = 1.0 if k == n else float(centre + half)
  return low, high


def ratio(
  tops: Sequence[float],
  bottoms: Sequence[float],
  *,
  minus: tuple[Sequence[float], Sequence[float]] | None = None,
  level: float = 0.95,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """sum(tops) / sum(bottoms), less another such ratio if `minus` gives one.

  Entry i belongs to answer i, and answers are what the bootstrap redraws:
  claims of one answer stand or fall together. n is sum(bottoms).
  """
  pairs = [(tops, bottoms)] + ([minus] if minus else [])
  columns = np.array([side for pair in pairs for side in pair], np.float64)
  n = columns.shape[1]
  total = columns[1].sum()
  count = int(total) if float(total).is_integer() else float(total)
  if n == 0 or not columns[1::2].sum(1).all():
    low = -1.0 if minus else 0.0
    return {'value': 0.0, 'low': low, 'high': 1.0, 'n': count}
  rng = np.random.default_rng(seed)
  weights = rng.multinomial(n, np.full(n, 1 / n), size=repeats)
  drawn = _value(weights @ columns.T)
  tail = 50 * (1 - level)
  low, high = np.nanpercentile(drawn, [tail, 100 - tail])
  value = _value(columns.sum(1)[None])[0]
  return {
    'value': float(value),
    'low': float(low),
    'high': float(high),
    'n': count,
  }


def _value(sums: np.ndarray) -> np.ndarray:
  """The ratio, or difference of ratios, of each row of sums."""
  with np.errstate(invalid='ignore', divide='ignore'):
    ratios = sums[:, 0::2] / sums[:, 1::2]
  return ratios[:, 0] - ratios[:, 1] if ratios.shape[1] > 1 else ratios[:, 0]
