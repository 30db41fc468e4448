"""What a reward model says of held-out pairs: its scores, how sure it is.

A run leaves judged.jsonl beside each reward model: {id, chosen, rejected,
decided}, the scores of the better and of the worse answer, and whether facts
told them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlhfv_jax import files
from rlhfv_jax.benchmarks import intervals
from rlhfv_jax.report import plots

FILE = 'judged.jsonl'
BINS = np.linspace(0.5, 1, 11)
Rows = Sequence[Mapping[str, Any]]
CAPTIONS = {
  'calibration': 'How often a reward model is right where it says it is so '
  'sure; on the diagonal it knows what it knows. Bars are 95 % intervals.',
  'scores': 'Scores of the better and the worse answers of held-out pairs.',
}


def read(workdir: Path) -> dict[str, list[dict]]:
  """By model, as its folder is called, the pairs that it judged."""
  found = sorted(workdir.rglob(FILE), key=lambda path: len(path.parts))
  return {path.parent.name: files.read_lines(path) for path in found}


def certainty(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
  """f[n], bool[n]: how sure the model is of its order, and if it is right.

  The chance that Bradley-Terry gives to the better-scored answer.
  """
  margin = np.array([row['chosen'] - row['rejected'] for row in rows], float)
  return 1 / (1 + np.exp(-np.abs(margin))), margin > 0


def binned(rows: Rows) -> list[tuple[float, np.ndarray]]:
  """(mean certainty, which were right) of each bin that has pairs."""
  sure, right = certainty(rows)
  place = np.clip(np.digitize(sure, BINS) - 1, 0, len(BINS) - 2)
  return [
    (sure[place == k].mean(), right[place == k]) for k in np.unique(place)
  ]


def calibration_error(rows: Rows) -> float:
  """How far certainty is from accuracy, a mean over pairs (ECE, ten bins)."""
  apart = [len(hit) * abs(sure - hit.mean()) for sure, hit in binned(rows)]
  return float(sum(apart) / max(1, len(rows)))


def figures(judged: Mapping[str, Rows]) -> dict[str, Figure]:
  """The plots by file name; none where nothing was judged."""
  judged = {name: rows for name, rows in judged.items() if rows}
  if not judged:
    return {}
  return {'calibration': calibration(judged), 'scores': histograms(judged)}


def calibration(judged: Mapping[str, Rows]) -> Figure:
  with matplotlib.rc_context(plots.STYLE):
    figure = Figure(figsize=(4.8, 3.6), layout='constrained')
    ax = figure.subplots()
    ax.plot([50, 100], [50, 100], ':', color=plots.INK, linewidth=1)
    for k, (name, rows) in enumerate(judged.items(), 1):
      points = np.array([
        (sure, hit.mean(), *intervals.wilson(int(hit.sum()), len(hit)))
        for sure, hit in binned(rows)
      ])  # fmt: skip
      sure, value, low, high = 100 * points.T
      ax.errorbar(
        sure, value, np.maximum([value - low, high - value], 0), marker='o',
        markersize=3.5, capsize=2, label=name,
        color=plots.SERIES[k % len(plots.SERIES)],
      )  # fmt: skip
    ax.set(title='Calibration', xlabel='certainty, %', ylabel='right, %')
    ax.legend(loc='lower right')
    return figure


def histograms(judged: Mapping[str, Rows]) -> Figure:
  with matplotlib.rc_context(plots.STYLE):
    size = (4.2 * len(judged), 3)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(1, len(judged), squeeze=False)[0]
    for ax, (name, rows) in zip(axes, judged.items(), strict=True):
      told = {kind: [row[kind] for row in rows] for kind in
              ('chosen', 'rejected')}  # fmt: skip
      edges = np.histogram_bin_edges(sum(told.values(), []), 30)
      for k, (kind, values) in enumerate(told.items(), 1):
        ax.hist(values, edges, label=kind, alpha=0.6, color=plots.SERIES[k])
      ax.set(title=f'Scores, {name}', xlabel='score', ylabel='answers')
    axes[0].legend(loc='upper left')
    return figure
