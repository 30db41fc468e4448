"""Two models on the same questions: the difference, and who changed how.

Answers to one question resemble each other whatever the model, so the pairs are
redrawn and not the models: the interval is narrower than two intervals suggest.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlhfv_jax.benchmarks import amber, asked, overgeneralization, playroom
from rlhfv_jax.benchmarks.composed import change
from rlhfv_jax.benchmarks.intervals import mean, of_sums, ratio
from rlhfv_jax.benchmarks.tally import VERSION

# By benchmark: the settings of a result -> its composed metrics.
COMPOSED = {
  'amber': amber.composed,
  'overgeneralization': overgeneralization.composed,
  'playroom': playroom.composed,
}


def compare(
  one: Mapping[str, Any],
  other: Mapping[str, Any],
  *,
  repeats: int = 1000,
  seed: int = 0,
) -> dict[str, dict]:
  """By metric: other - one with its interval, and answers that changed.

  Both are results of one benchmark's `score`. `up` and `down` count answers
  whose share in the metric rose or fell, `same` those where it stayed, `n` all
  that either adds to. Of what is composed of several (`composed.py`), an answer
  is counted by where it alone would move it. Other metrics have no pairs.
  """
  check(one, other)
  first, second = ({a['id']: a for a in r['answers']} for r in (one, other))
  ids = list(first)
  names = {name: [name] for a in one['answers'] for name in a.get('counts', ())}
  names |= one.get('means', {})

  def added(answers: Mapping[str, Any], parts: Sequence[str]) -> np.ndarray:
    """What each answer adds to the parts of a metric: [parts, answers, 2]."""
    none = (0.0, 0.0)
    return np.array(
      [[answers[i]['counts'].get(part, none) for i in ids] for part in parts]
    )

  draws = {'repeats': repeats, 'seed': seed}
  found = {
    name: _metric(added(first, parts), added(second, parts), **draws)
    for name, parts in names.items()
    if name in other['metrics']
  }
  composed = COMPOSED.get(one['benchmark'], lambda settings: {})
  both = one['metrics'].keys() & other['metrics'].keys()
  if whole := {k: m for k, m in composed(one['settings']).items() if k in both}:
    sides = (functools.partial(added, answers) for answers in (first, second))
    found |= change(*sides, whole, **draws)
  return found


def _metric(before: np.ndarray, after: np.ndarray, **draws: int) -> dict:
  if len(before) == 1:
    tops, bottoms = after[0].T
    difference = ratio(tops, bottoms, minus=tuple(before[0].T), **draws)
  else:
    sides = np.concatenate([after, before]).transpose(0, 2, 1)
    columns = sides.reshape(-1, sides.shape[-1])
    difference = of_sums(columns, _apart, **draws)
  # An answer adds to one part alone.
  before, after = before.sum(0).tolist(), after.sum(0).tolist()
  both = [
    (b[0] / b[1], a[0] / a[1])
    for b, a in zip(before, after, strict=True)
    if b[1] and a[1]
  ]
  used = [b[1] or a[1] for b, a in zip(before, after, strict=True)]
  return {
    'difference': difference['value'],
    'low': difference['low'],
    'high': difference['high'],
    'up': sum(a > b for b, a in both),
    'down': sum(a < b for b, a in both),
    'same': sum(a == b for b, a in both),
    'n': sum(map(bool, used)),
  }


def _apart(sums: np.ndarray) -> np.ndarray:
  """The mean of the first half of the ratios less that of the second."""
  after, before = np.split(sums, 2, axis=1)
  return mean(after) - mean(before)


def check(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
  """Refuses results that say different things."""
  for result in (one, other):
    missing = {'benchmark', 'version', 'settings', 'answers'} - set(result)
    if missing:
      raise ValueError(
        f'this is no result of a benchmark: {", ".join(sorted(missing))} '
        'missing; score its answers again'
      )
  versions = [result['version'] for result in (one, other)]
  if versions != [VERSION, VERSION]:
    raise ValueError(
      f'results of versions {versions[0]} and {versions[1]}, this code scores '
      f'by version {VERSION}: score the answers of the older again'
    )
  for key in ('benchmark', 'settings'):
    if one[key] != other[key]:
      raise ValueError(
        f'{key} differ: {one[key]} and {other[key]}; numbers that were made '
        'in different ways are not compared'
      )
  ids = [{answer['id'] for answer in r['answers']} for r in (one, other)]
  if ids[0] != ids[1]:
    alone = [sorted(ids[0] - ids[1]), sorted(ids[1] - ids[0])]
    raise ValueError(
      f'different questions: {len(alone[0])} only in the first '
      f'({asked.some(alone[0])}), {len(alone[1])} only in the second '
      f'({asked.some(alone[1])})'
    )
