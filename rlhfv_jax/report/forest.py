"""Differences with their intervals, a line each: which side of nothing?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlhfv_jax.report.plots import INK, SERIES, STYLE, Interval

_MARKS = 'oDsv^P'


def forest(
  names: Sequence[str], series: Mapping[str, Sequence[Interval | None]], *,
  title: str, zero: bool,
) -> Figure:  # fmt: skip
  """{series: (value, low, high) by name}, in %; a line at 0 for differences."""
  height = 0.9 + 0.24 * len(names) * max(1, len(series))
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(7.2, height), layout='constrained')
    ax = figure.subplots()
    for i, (label, intervals) in enumerate(series.items()):
      at = [j for j, x in enumerate(intervals) if x]
      if not at:
        continue
      value, low, high = 100 * np.array([intervals[j] for j in at], float).T
      ax.errorbar(
        value, np.array(at) + 0.7 * ((i + 0.5) / len(series) - 0.5),
        xerr=np.maximum([value - low, high - value], 0),
        fmt=_MARKS[i % len(_MARKS)], color=SERIES[(i + 1) % len(SERIES)],
        label=label, markersize=4.5, capsize=2.5, linewidth=1.2,
      )  # fmt: skip
    if zero:
      ax.axvline(0, color=INK, linewidth=0.9)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis='y', visible=False)
    ax.set(title=title, xlabel='%')
    if len(series) > 1:
      figure.legend(loc='outside lower center', ncols=len(series))
    return figure
