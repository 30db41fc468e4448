"""The charts of a data check, drawn like the report's."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rlhfv_jax.doctor.summary import Summary
from rlhfv_jax.report.plots import INK, SERIES, STYLE

_CHOSEN, _REJECTED, _OTHER = SERIES[1], SERIES[2], SERIES[4]


def lengths(s: Summary) -> Figure | None:
  """How long answers are, and rows against the buckets they go into."""
  if not s.usable:
    return None
  said = {'chosen': s.chosen, 'rejected': s.rejected}
  said = said if s.pairs else {'answer': s.chosen}
  panels = [(f'Answers, in {s.unit}', said, [])]
  trunks = [trunk for trunk, _, _ in s.lengths.buckets]
  branches = [branch for _, branch, _ in s.lengths.buckets if branch]
  if s.unit == 'tokens':
    whole = 'Trunk: prompt and shared' if s.pairs else 'Whole rows'
    panels.append((whole, {'rows': s.lengths.trunks}, trunks))
  if s.unit == 'tokens' and s.pairs:
    rests = {'rows': s.lengths.rests.max(axis=1)}
    panels.append(('Branch: the longer rest', rests, branches))
  return _row(panels)


def corrections(s: Summary) -> Figure | None:
  """How much was corrected, and where in the answer it starts."""
  if not s.pairs:
    return None
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(9.4, 2.7), layout='constrained')
    many, much, where = figure.subplots(1, 3)
    most = max(int(s.segments.max()), 1)
    counts = np.bincount(np.minimum(s.segments, 12), minlength=2)
    many.bar(range(len(counts)), counts, 0.86, color=_OTHER)
    many.set(title='Segments a pair', ylabel='pairs')
    if most > 12:
      many.set_xlabel(f'12 stands for up to {most}')
    for ax, share, title in (
      (much, s.corrected, f'Share of {s.unit} corrected'),
      (where, s.shared, 'Shared before the first one'),
    ):
      ax.hist(share, np.linspace(0, 1, 26), color=_OTHER, rwidth=0.9)
      ax.axvline(share.mean(), color=INK, linewidth=1, linestyle=':')
      ax.set(title=title)
      ax.xaxis.set_major_formatter(PercentFormatter(1))
    _plain(figure)
    return figure


def _row(panels: Sequence[tuple]) -> Figure:
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(9.4, 2.9), layout='constrained')
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for ax, (title, series, cuts) in zip(axes, panels, strict=True):
      _histogram(ax, series, cuts)
      ax.set_title(title, pad=16)
    axes[0].set_ylabel('rows')
    _plain(figure)
    return figure


def _histogram(ax, series: dict[str, np.ndarray], cuts: Sequence[int]) -> None:
  """Lengths up to where few are left; what is longer stands at the end."""
  values = np.concatenate([*series.values(), [0]])
  most = int(np.quantile(values, 0.995)) if len(values) > 200 else values.max()
  top = max(int(most), *cuts, 1) + 1
  step = -(-top // 40)
  edges = np.arange(0, top + step, step)
  looks = ((_CHOSEN, '-'), (_REJECTED, '--'))
  for (name, those), (colour, dash) in zip(series.items(), looks, strict=False):
    counts, _ = np.histogram(np.minimum(those, edges[-1]), edges)
    ax.stairs(counts, edges, fill=True, color=colour, alpha=0.18)
    ax.stairs(counts, edges, color=colour, linestyle=dash, label=name)
  for cut in sorted(set(cuts)):
    ax.axvline(cut, color=INK, linewidth=1, linestyle=':')
    at = dict(xycoords=('data', 'axes fraction'), textcoords='offset points')
    ax.annotate(f'{cut}', (cut, 1), (0, 2), ha='center', fontsize=8, **at)
  if len(series) > 1:
    ax.legend(loc='best')


def _plain(figure: Figure) -> None:
  for ax in figure.axes:
    ax.grid(axis='x', visible=False)
    ax.set_ylim(bottom=0)
    ax.locator_params(axis='y', nbins=5, integer=True)
