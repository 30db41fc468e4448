"""Numbers along something: a line a way of doing it, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlhfv_jax.report import findings, plots

_DASHES = ('-', '--', ':', '-.')


def lines(
  rows: Sequence[Mapping[str, Any]],
  *,
  along: str,
  of: str,
  metrics: Sequence[str],
) -> Figure:
  """A panel a metric: row[along] against row[metric], a line for each row[of].

  Where a row has `metric/low` and `metric/high` they are drawn as bars.
  """
  with matplotlib.rc_context(plots.STYLE):
    figure = Figure((4.4 * len(metrics), 3.2), layout='constrained')
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    names = list(dict.fromkeys(row[of] for row in rows))
    for ax, metric in zip(axes, metrics, strict=True):
      about = findings.describe(metric)
      scale = 100 if about.unit == '%' else 1
      for i, name in enumerate(names):
        found = sorted(
          (row for row in rows if row[of] == name and metric in row),
          key=lambda row: row[along],
        )
        if found:
          _line(ax, found, along, metric, scale, i, label=_named(of, name))
      ax.set(title=about.title, xlabel=along, ylabel=about.unit)
      ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    if len(names) > 1:
      axes[0].legend(loc='best')
    return figure


def _named(of: str, value: Any) -> str:
  return value if isinstance(value, str) else f'{of} = {value:g}'


def _line(ax, rows, along, metric, scale, number, *, label) -> None:
  x = [row[along] for row in rows]
  value = scale * np.array([row[metric] for row in rows], float)
  ends = [[row.get(f'{metric}/{end}', row[metric]) for row in rows]
          for end in ('low', 'high')]  # fmt: skip
  low, high = scale * np.array(ends, float)
  ax.errorbar(
    x, value, np.maximum([value - low, high - value], 0), label=label,
    fmt=f'o{_DASHES[number % len(_DASHES)]}', markersize=4, capsize=2.5,
    color=plots.SERIES[(number + 1) % len(plots.SERIES)], elinewidth=1,
  )  # fmt: skip
