"""Several runs of a judge over the same answers: their mean and spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rlhfv_jax.benchmarks import paired


def average(results: Sequence[Mapping[str, Any]]) -> dict:
  """One result of several that differ in the judge's replies alone.

  A metric's value is the mean of the runs' and `spread` their standard
  deviation. Its interval is about which answers were drawn, so it is the mean
  of the runs' too and does not shrink with their number; an answer's counts are
  averaged.
  """
  if not results:
    raise ValueError('no runs to average')
  first = results[0]
  for other in results[1:]:
    paired.check(first, other)
  by_id = [{a['id']: a for a in result['answers']} for result in results]
  return {
    **first,
    'metrics': {
      name: _metric([result['metrics'][name] for result in results])
      for name in first['metrics']
    },
    'answers': [
      {**answer, 'counts': _counts([run[answer['id']] for run in by_id])}
      for answer in first['answers']
    ],
    'official': {
      f'run {i}': result['official'] for i, result in enumerate(results, 1)
    },
    'warnings': [
      f'run {i}: {warning}'
      for i, result in enumerate(results, 1)
      for warning in result['warnings']
    ],
    'runs': len(results),
  }


def _metric(values: Sequence[Mapping[str, float]]) -> dict:
  mean = lambda key: statistics.fmean(value[key] for value in values)
  single = [value['value'] for value in values]
  return {
    'value': mean('value'),
    'low': mean('low'),
    'high': mean('high'),
    'n': min(value['n'] for value in values),
    'spread': statistics.stdev(single) if len(single) > 1 else 0.0,
    'runs': single,
  }


def _counts(answers: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
  names = dict.fromkeys(n for answer in answers for n in answer['counts'])
  return {
    name: [
      statistics.fmean(a['counts'].get(name, (0.0, 0.0))[side] for a in answers)
      for side in (0, 1)
    ]
    for name in names
  }
