"""Rates and ratios with the intervals that their sample size allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np

# Beyond this many answers the normal approximation is as good as a bootstrap.
MANY = 5_000
_BLOCK = 1 << 20  # weights drawn at a time: 8 MB


def rate(hits: Sequence[bool], *, level: float = 0.95) -> dict:
  """The share of hits, with Wilson's score interval."""
  n, k = len(hits), sum(map(bool, hits))
  low, high = wilson(k, n, level=level)
  return {'value': k / n if n else 0.0, 'low': low, 'high': high, 'n': n}


def wilson(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
  """Wilson (1927): the rates at which k of n would be no surprise."""
  if n == 0:
    return 0.0, 1.0
  z = _normal(level)
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
  total = columns[1].sum()
  count = int(total) if float(total).is_integer() else float(total)
  if columns.shape[1] == 0 or not columns[1::2].sum(1).all():
    low = -1.0 if minus else 0.0
    return {'value': 0.0, 'low': low, 'high': 1.0, 'n': count}
  if columns.shape[1] > MANY:
    found = _linear(columns, level)
  else:
    found = of_sums(columns, _value, level=level, repeats=repeats, seed=seed)
  if not minus and columns.min() >= 0:
    found['low'] = max(0.0, found['low'])
  return {**found, 'n': count}


def of_sums(
  columns: Sequence[Sequence[float]],
  function: Callable[[np.ndarray], np.ndarray],
  *,
  level: float = 0.95,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """A function of column sums, and its interval when answers are redrawn.

  `columns` has a row for each column of counts, an entry for each answer;
  `function` gets sums [draws, columns] and gives a value for each draw.
  """
  columns = np.asarray(columns, np.float64)
  if columns.shape[1] == 0:
    return {'value': 0.0, 'low': 0.0, 'high': 1.0}
  drawn = redrawn(columns, repeats=repeats, seed=seed)
  return around(columns.sum(1)[None], drawn, function, level=level)


def mean(sums: np.ndarray) -> np.ndarray:
  """Of ratios, of each row of sums; one with nothing below counts as 0."""
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.nan_to_num(sums[:, 0::2] / sums[:, 1::2]).mean(axis=1)


def redrawn(
  columns: np.ndarray, *, repeats: int = 1000, seed: int = 0
) -> np.ndarray:
  """Sums of columns over redrawn answers, [repeats, columns]."""
  weights = _weights(columns.shape[1], repeats, seed)
  return np.concatenate([weight @ columns.T for weight in weights])


def around(
  sums: np.ndarray,
  drawn: np.ndarray,
  function: Callable[[np.ndarray], np.ndarray],
  *,
  level: float = 0.95,
) -> dict:
  """The function's value of sums [1, k], and how it spreads over the drawn."""
  value = float(np.nan_to_num(function(sums))[0])
  values = function(drawn)
  if np.isnan(values).all():
    return {'value': value, 'low': value, 'high': value}
  tail = 50 * (1 - level)
  low, high = np.nanpercentile(values, [tail, 100 - tail])
  return {'value': value, 'low': float(low), 'high': float(high)}


def _weights(n: int, repeats: int, seed: int) -> Iterator[np.ndarray]:
  """How often each of n answers is drawn, for a few bootstraps at a time."""
  rng = np.random.default_rng(seed)
  block = max(1, _BLOCK // max(n, 1))
  for start in range(0, repeats, block):
    yield np.stack(
      [
        np.bincount(rng.integers(0, n, n), minlength=n)
        for _ in range(min(block, repeats - start))
      ]
    ).astype(np.float64)


def _linear(columns: np.ndarray, level: float) -> dict:
  """The same from the linearised ratio: normal, as the sample is large."""
  n = columns.shape[1]
  value, error = 0.0, np.zeros(n)
  for sign, i in ((1, 0), (-1, 2))[: len(columns) // 2]:
    tops, bottoms = columns[i : i + 2]
    share = tops.sum() / bottoms.sum()
    value += sign * share
    error += sign * (tops - share * bottoms) / bottoms.mean()
  half = _normal(level) * error.std() / np.sqrt(n)
  return {
    'value': float(value),
    'low': float(value - half),
    'high': float(value + half),
  }


def _value(sums: np.ndarray) -> np.ndarray:
  """The ratio, or difference of ratios, of each row of sums."""
  with np.errstate(invalid='ignore', divide='ignore'):
    ratios = sums[:, 0::2] / sums[:, 1::2]
  return ratios[:, 0] - ratios[:, 1] if ratios.shape[1] > 1 else ratios[:, 0]


def _normal(level: float) -> float:
  return NormalDist().inv_cdf((1 + level) / 2)
