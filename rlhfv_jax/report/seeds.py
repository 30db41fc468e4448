"""What several seeds say: means, intervals, and whether a claim holds.

Runs of one seed share world, pictures and base model, so two ways to learn are
held against each other seed by seed (Student's paired t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from rlhfv_jax import files
from rlhfv_jax.report import findings

LEVEL = 0.95
METRICS = ('hallucination', 'mention', 'coverage', 'length', 'vqa')
OF_RUNS = (*METRICS, f'{findings.UNSEEN}/hallucination')
Row = Mapping[str, Any]  # arm, seed, and a number for each metric


def interval(values: Sequence[float]) -> tuple[float, float, float]:
  """(mean, low, high) of a mean over seeds; without an interval for one."""
  x = np.asarray(values, np.float64)
  mean = float(x.mean())
  if len(x) < 2:
    return mean, mean, mean
  half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * x.std(ddof=1)
  half = float(half / math.sqrt(len(x)))
  return mean, mean - half, mean + half


def paired(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
  """one - other, seed by seed: its mean, interval and two-sided p-value."""
  apart = np.asarray(one, np.float64) - np.asarray(other, np.float64)
  mean, low, high = interval(apart)
  n, spread = len(apart), float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
  if n < 2:
    p = math.nan
  elif spread == 0:
    p = float(mean == 0)
  else:
    t = abs(mean) / (spread / math.sqrt(n))
    p = float(2 * stats.t.sf(t, n - 1))
  return {'difference': mean, 'low': low, 'high': high, 'p': p, 'n': n}


def of_runs(folders: Sequence[Path]) -> list[Row]:
  """The models of finished runs that differ in nothing but their seed."""
  rows, first = [], None
  for folder in folders:
    path = folder / 'results.json'
    if not (folder / 'done.json').exists():
      raise ValueError(f'{folder} is no finished run: run it to its end')
    config = files.read_json(folder / 'config.json')['config']
    seed = config.pop('seed')
    if first is not None and config != first:
      raise ValueError(
        f'{folder} and {folders[0]} differ in more than their seed: '
        f'compare them with `report {path} {folders[0]}/results.json`'
      )
    if any(row['seed'] == seed for row in rows):
      raise ValueError(f'{folder}: there is a run with seed {seed} already')
    first = config
    for arm, metrics in files.read_json(path)['models'].items():
      values = {name: found['value'] for name, found in metrics.items()}
      rows.append({'arm': arm, 'seed': seed} | values)
  return rows


def by_seed(
  rows: Sequence[Row], arm: str | Sequence[str], metric: str
) -> dict[int, float]:
  """Of several arms their mean, for the seeds that have all of them."""
  arms = {arm} if isinstance(arm, str) else set(arm)
  found: dict[int, dict[str, float]] = {}
  for row in rows:
    if row['arm'] in arms and metric in row:
      found.setdefault(row['seed'], {})[row['arm']] = row[metric]
  return {
    seed: float(np.mean(list(values.values())))
    for seed, values in found.items()
    if len(values) == len(arms)
  }


def verdict(test: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
  """Holds {says, metric, less, than} against the seeds that have both arms.

  reproduced: the interval is on the claimed side of 0; the opposite: on the
  other side; not reproduced here: 0 is in it.
  """
  both = [by_seed(rows, test[k], test['metric']) for k in ('less', 'than')]
  seeds = sorted(both[0].keys() & both[1].keys())
  found = {'says': test['says'], 'metric': test['metric']}
  if len(seeds) < 2:
    return found | {'n': len(seeds), 'verdict': 'not tested'}
  result = paired(*([values[s] for s in seeds] for values in both))
  word = 'not reproduced here'
  if result['high'] < 0:
    word = 'reproduced'
  elif result['low'] > 0:
    word = 'the opposite'
  return found | result | {'verdict': word}


def said(found: Mapping[str, Any]) -> str:
  """A verdict as a line."""
  if found['verdict'] == 'not tested':
    return (
      f'- {found["says"]}: **not tested**, {found["n"]} seeds have both arms '
      'and it takes 2'
    )
  metric = findings.describe(found['metric'])
  ends = [metric.text(found[k]) for k in ('difference', 'low', 'high')]
  return (
    f'- {found["says"]}: **{found["verdict"]}** ({metric.label}: difference '
    f'{ends[0]} [{ends[1]}, {ends[2]}] {metric.unit}, p = {found["p"]:.2g}, '
    f'{found["n"]} seeds)'
  )


def means(rows: Sequence[Row], metrics: Sequence[str]) -> list[dict[str, Any]]:
  """A row an arm: for each metric its mean, and metric/low and metric/high."""
  found = []
  for arm in dict.fromkeys(row['arm'] for row in rows):
    ran = {row['seed'] for row in rows if row['arm'] == arm}
    one: dict[str, Any] = {'arm': arm, 'seeds': len(ran)}
    for metric in metrics:
      if values := [*by_seed(rows, arm, metric).values()]:
        mean, low, high = interval(values)
        one |= {metric: mean, f'{metric}/low': low, f'{metric}/high': high}
    found.append(one)
  return found


def table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
  """Arms as rows and metrics as columns, with intervals over the seeds."""
  about = [findings.describe(m) for m in metrics]
  heads = [_head(*one) for one in zip(about, metrics, strict=True)]
  lines = [['', *heads, 'seeds'], ['---'] * (len(metrics) + 2)]
  for one in means(rows, metrics):
    cells = [
      _cell(metric, one, name)
      for metric, name in zip(about, metrics, strict=True)
    ]
    lines.append([one['arm'], *cells, str(one['seeds'])])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _head(metric: findings.Metric, name: str) -> str:
  label = f'{metric.label}, {metric.unit}' if metric.unit else metric.label
  unseen = name.startswith(f'{findings.UNSEEN}/')
  return f'{label}, in rooms as never seen' if unseen else label


def _cell(metric: findings.Metric, one: Mapping[str, Any], name: str) -> str:
  if name not in one:
    return '-'
  value, low, high = (one[f'{name}{end}'] for end in ('', '/low', '/high'))
  if low == high:
    return metric.text(value)
  return f'{metric.text(value)} [{metric.text(low)}, {metric.text(high)}]'
