"""The pictures of a reward model: how sure it is, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlhfv_jax.benchmarks import intervals
from rlhfv_jax.report import plots
from rlhfv_jax.report.rewards import Rows, binned


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
