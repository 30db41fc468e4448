"""What each answer adds to each metric, and the result that comes of it.

A metric is sum(tops) / sum(bottoms), and every answer says what it adds to
both. So rates, means, precision, F1 and ratios of scores are one thing, their
intervals redraw answers, and two models are compared answer by answer
(`paired.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhfv_jax.benchmarks import asked
from rlhfv_jax.benchmarks.intervals import mean, of_sums, rate, ratio
from rlhfv_jax.benchmarks.published import published

# Raised when a number here changes its meaning: results of different versions
# are not compared.
VERSION = 1

Columns = Mapping[str, tuple[Sequence[float], Sequence[float]]]

# What counts as trouble, and how a warning says it.
_TROUBLE = {
  'empty': 'are empty',
  'foreign': 'are in another language than the benchmark reads',
  'unparsed': 'could not be parsed',
  'unjudged': 'were not judged',
}


def result(
  benchmark: str,
  ids: Sequence[str],
  columns: Columns,
  *,
  settings: Mapping[str, Any],
  found: Sequence[Mapping[str, Any]] | None = None,
  behind: Columns | None = None,
  means: Mapping[str, Sequence[str]] | None = None,
  combined: Mapping[str, Mapping[str, Any]] | None = None,
  official: Mapping[str, Any] | None = None,
  warnings: Sequence[str] = (),
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Metrics with intervals, what is behind them, and what they compare with.

  `found` is what was found in each answer; `means` says of which metrics
  another one is the mean; `combined` holds those that are neither, `behind`
  what answers add to these alone; `official` is what the original script would
  print.
  """
  found = found or [{}] * len(ids)
  metrics = {
    name: metric(tops, bottoms, repeats=repeats, seed=seed)
    for name, (tops, bottoms) in columns.items()
  }
  for name, parts in (means or {}).items():
    sides = [side for part in parts for side in columns[part]]
    drawn = of_sums(sides, mean, repeats=repeats, seed=seed)
    metrics[name] = {**drawn, 'n': len(ids)}
  return {
    'benchmark': benchmark,
    'version': VERSION,
    'settings': dict(settings),
    'metrics': {**metrics, **(combined or {})},
    'means': {name: list(parts) for name, parts in (means or {}).items()},
    'answers': [
      {
        'id': ids[i],
        **found[i],
        'counts': {
          name: [float(tops[i]), float(bottoms[i])]
          for name, (tops, bottoms) in {**columns, **(behind or {})}.items()
          if bottoms[i] or tops[i]
        },
      }
      for i in range(len(ids))
    ],
    'official': dict(official or {}),
    'published': published(benchmark),
    'warnings': [*warnings, *_trouble(ids, columns), *_nothing(metrics)],
  }


def metric(
  tops: Sequence[float], bottoms: Sequence[float], **draws: int
) -> dict:
  """A rate with Wilson's interval if that is what it is, else a ratio."""
  pairs = {(float(t), float(b)) for t, b in zip(tops, bottoms, strict=True)}
  if pairs <= {(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)}:
    return rate([t for t, b in zip(tops, bottoms, strict=True) if b])
  return ratio(tops, bottoms, **draws)


def _trouble(ids: Sequence[str], columns: Columns) -> list[str]:
  told = []
  for name, words in _TROUBLE.items():
    tops, bottoms = columns.get(name, ([], []))
    bad = [i for i, top in zip(ids, tops, strict=False) if top]
    if bad:
      n = int(sum(bottoms))
      told.append(f'{len(bad)} of {n} answers {words}: {asked.some(bad)}')
  return told


def _nothing(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
  return [
    f'{name}: nothing to measure it on (n = 0), the 0 is no result'
    for name, values in metrics.items()
    if not values['n']
  ]
