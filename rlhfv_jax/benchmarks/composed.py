"""Metrics that are made of several sums: of one model, and what two differ by.

The sums are those of parts, to which every answer adds as to a metric
(`tally.py`). Answers are redrawn once, for all parts and for both models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from rlhfv_jax.benchmarks.intervals import around, redrawn


class Composed(NamedTuple):
  """A metric: `of` gets sums [draws, tops and bottoms of the parts in turn]."""

  parts: tuple[str, ...]
  of: Callable[[np.ndarray], np.ndarray]


def measure(
  columns: Mapping[str, tuple], metrics: Mapping[str, Composed], **draws: int
) -> dict[str, dict]:
  """Each metric with its interval."""
  parts, place = _places(metrics)
  flat = np.array([side for part in parts for side in columns[part]], float)
  sums, drawn = flat.sum(1)[None], redrawn(flat, **draws)
  return {
    name: around(sums[:, place[name]], drawn[:, place[name]], metric.of)
    for name, metric in metrics.items()
  }


def change(
  before: Callable[[list[str]], np.ndarray],
  after: Callable[[list[str]], np.ndarray],
  metrics: Mapping[str, Composed],
  **draws: int,
) -> dict[str, dict]:
  """after - before as `paired.compare` gives it; none where one has no value.

  Both give what each answer adds to parts, [parts, answers, 2]. An answer
  counts as up or down if it alone, taken from `after`, moves the metric there.
  """
  parts, place = _places(metrics)
  old, new = (
    side(parts).transpose(0, 2, 1).reshape(2 * len(parts), -1)
    for side in (before, after)
  )
  flat = np.concatenate([old, new])
  sums, drawn = flat.sum(1)[None], redrawn(flat, **draws)
  alone = old.sum(1) + (new - old).T

  def changed(of: Callable, at: np.ndarray) -> dict:
    apart = lambda sums: of(sums[:, at + len(old)]) - of(sums[:, at])
    moved = np.round(of(alone[:, at]) - of(sums[:, at]), 12)
    spread = around(sums, drawn, apart)
    return {
      'difference': spread['value'],
      'low': spread['low'],
      'high': spread['high'],
      'up': int((moved > 0).sum()),
      'down': int((moved < 0).sum()),
      'same': int((moved == 0).sum()),
      'n': len(alone),
      'known': bool(np.isfinite(apart(sums))),
    }

  found = {name: changed(m.of, place[name]) for name, m in metrics.items()}
  return {name: c for name, c in found.items() if c.pop('known')}


def _places(
  metrics: Mapping[str, Composed],
) -> tuple[list[str], dict[str, np.ndarray]]:
  """All parts, and where those of each metric have their two sums."""
  parts = list(dict.fromkeys(p for m in metrics.values() for p in m.parts))
  at = {part: 2 * i for i, part in enumerate(parts)}
  return parts, {
    name: np.array([at[p] + side for p in metric.parts for side in (0, 1)])
    for name, metric in metrics.items()
  }
