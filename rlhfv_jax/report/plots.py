"""The pictures of a report: bars by category and training curves.

A figure is drawn once. As PNG it stands on white; as SVG its colours are CSS
variables, so that a page in dark mode shows it in its own.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

INK, FAINT = '#24292f', '#d0d4da'
SERIES = ('#868e99', '#1f6fb5', '#c77c11', '#7b5ea7', '#2c9270', '#c2527a')
_VARIABLES = {INK: '--ink', FAINT: '--line'} | {
  colour: f'--series-{i}' for i, colour in enumerate(SERIES)
}
_HATCHES = ('', '', '////', '....', 'xxxx', '----')
STYLE = {
  'font.size': 9.5,
  'text.hinting': 'none',  # letters stand where their widths say
  'axes.titlesize': 10.5,
  'axes.titleweight': 'bold',
  'axes.titlelocation': 'left',
  'axes.titlepad': 10,
  'axes.edgecolor': FAINT,
  'axes.labelcolor': INK,
  'axes.titlecolor': INK,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.formatter.useoffset': False,
  'axes.prop_cycle': matplotlib.cycler(color=[INK]),
  'grid.color': FAINT,
  'grid.linewidth': 0.6,
  'hatch.linewidth': 0.7,
  'legend.frameon': False,
  'legend.fontsize': 8.5,
  'legend.labelcolor': INK,
  'legend.handlelength': 2.2,
  'lines.linewidth': 1.6,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'rlhfv_jax',
  'text.color': INK,
  'text.parse_math': False,
  'xtick.color': INK,
  'ytick.color': INK,
  'xtick.major.size': 0,
  'ytick.major.size': 0,
}

# Panel -> the lines in it: label, metric, colour, dash. A metric's held-out
# twin (eval_...) is drawn with it, as points.
_PANELS = {
  'Loss': [('loss', 'loss', 1, '-')],
  'Margin, and the tokens that make it': [
    ('all', 'rewards/margins', 0, '-'),
    ('corrected tokens', 'rewards/margins_corrected', 1, '--'),
    ('unchanged tokens', 'rewards/margins_unchanged', 2, ':'),
  ],
  'Rewards': [
    ('chosen', 'rewards/chosen', 1, '-'),
    ('rejected', 'rewards/rejected', 2, '--'),
  ],
  'Pairs in the right order': [('accuracy', 'rewards/accuracies', 1, '-')],
  'Score of the answers (log-probabilities)': [
    ('chosen', 'logps/chosen', 1, '-'),
    ('rejected', 'logps/rejected', 2, '--'),
  ],
  'Gradient norm': [('gradient norm', 'grad_norm', 1, '-')],
  'Reward of sampled answers': [('reward', 'objective/rewards', 1, '-')],
  'KL to the reference, nats an answer': [('KL', 'objective/kl', 1, '-')],
  'Sampled answers, as the truth has it': [
    ('hallucinate', 'answers/hallucination', 2, '--'),
    ('mention of what is there', 'answers/coverage', 1, '-'),
  ],
  'Of the time, what goes to writing answers': [
    ('share', 'time/share_generating', 1, '-')
  ],
}

Interval = tuple[float, float, float]  # value, low, high


def categories(
  panels: Mapping[str, Mapping[str, Mapping[str, Interval]]],
) -> Figure:
  """{title: {model: {category: (value, low, high)}}}: grouped bars, in %."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout='constrained')
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for ax, (title, models) in zip(axes, panels.items(), strict=True):
      _bars(ax, models)
      ax.set(title=title, ylabel='%')
    names = [bars.get_label() for bars in axes[0].containers[1::2]]
    figure.legend(
      axes[0].containers[1::2],
      names,
      loc='outside lower center',
      ncols=len(names),
    )
    return figure


def curves(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
  """The numbers of metrics.jsonl over the steps; None if there are none."""

  def there(line):
    return any(_points(rows, k + line[1])[0].size for k in ('', 'eval_'))

  found = {title: [*filter(there, _PANELS[title])] for title in _PANELS}
  panels = {title: lines for title, lines in found.items() if lines}
  if not panels:
    return None
  columns = min(len(panels), 2)
  height = -(-len(panels) // columns)
  with matplotlib.rc_context(STYLE):
    size = (4.8 * columns, 2.7 * height)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
      ax.remove()
    for ax, (title, lines) in zip(axes, panels.items(), strict=False):
      for line in lines:
        _curve(ax, rows, *line)
      ax.set_title(title)
      if len(lines) > 1:
        ax.legend(loc='best')
    for ax in axes[max(len(panels) - columns, 0) : len(panels)]:
      ax.set_xlabel('step')
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    return figure


def heatmap(
  rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metrics: Sequence[str]
) -> Figure | None:
  """A panel a metric over two keys; None where not exactly two vary."""
  if len(keys) != 2:
    return None
  down, along = ([*dict.fromkeys(row[k] for row in rows)] for k in keys)
  with matplotlib.rc_context(STYLE | {'axes.grid': False}):
    figure = Figure((3.6 * len(metrics), 0.6 * len(down) + 1.4))
    for ax, metric in zip(
      figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
      grid = np.full((len(down), len(along)), np.nan)
      for row in rows:
        grid[down.index(row[keys[0]]), along.index(row[keys[1]])] = row[metric]
      ax.imshow(grid, cmap='Blues', aspect='auto', alpha=0.6)
      for (y, x), value in np.ndenumerate(grid):
        ax.text(x, y, f'{value:.3f}', ha='center', va='center')
      ax.set_xticks(range(len(along)), [f'{v:g}' for v in along])
      ax.set_yticks(range(len(down)), [f'{v:g}' for v in down])
      ax.set(title=metric, xlabel=keys[1], ylabel=keys[0])
    figure.tight_layout()
  return figure


def png(figure: Figure) -> bytes:
  """The figure on white, sharp enough for paper."""
  with matplotlib.rc_context(STYLE), io.BytesIO() as out:
    figure.savefig(out, format='png', dpi=180, facecolor='white')
    return out.getvalue()


def svg(figure: Figure, name: str) -> str:
  """The figure as part of a page, in the page's colours.

  `name` keeps the ids of several figures apart.
  """
  with matplotlib.rc_context(STYLE), io.StringIO() as out:
    metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(out, format='svg', transparent=True, metadata=metadata)
    text = out.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = re.sub(r' xmlns(:\w+)?="[^"]*"', '', text)
  text = re.sub(r'(\bid="|url\(#|href="#)', rf'\1{name}-', text)
  for colour, variable in _VARIABLES.items():
    text = text.replace(colour, f'var({variable})')
  return text


def _bars(ax, models: Mapping[str, Mapping[str, Interval]]) -> None:
  names = list(dict.fromkeys(c for row in models.values() for c in row))
  width = 0.8 / len(models)
  for i, (model, row) in enumerate(models.items()):
    # A category that this model lacks has no bar.
    at = [j for j, name in enumerate(names) if name in row]
    value, low, high = 100 * np.array([row[names[j]] for j in at]).T
    ax.bar(
      np.array(at) + (i - (len(models) - 1) / 2) * width,
      value,
      width * 0.92,
      yerr=np.maximum([value - low, high - value], 0),
      label=model,
      color=SERIES[i % len(SERIES)],
      hatch=_HATCHES[i % len(_HATCHES)],
      edgecolor='white',
      linewidth=0,
      error_kw={'ecolor': INK, 'elinewidth': 1, 'capsize': 2.5},
    )
  ax.set_xticks(range(len(names)), names)
  ax.grid(axis='x', visible=False)
  ax.set_ylim(bottom=0)


def _curve(ax, rows, label, metric, colour, dash) -> None:
  colour = SERIES[colour]
  step, value = _points(rows, metric)
  ax.plot(step, value, color=colour, linewidth=0.8, alpha=0.3)
  ax.plot(step, _smooth(value), dash, color=colour, label=label)
  look = dict(marker='o', markersize=3.5, linewidth=0.8, color=colour)
  ax.plot(*_points(rows, f'eval_{metric}'), dash, **look)


def _points(rows, metric: str) -> tuple[np.ndarray, np.ndarray]:
  """The last number of each step, in order, without what is not finite."""
  last = {row['step']: row[metric] for row in rows if metric in row}
  points = np.array(sorted(last.items()), float).reshape(-1, 2)
  return tuple(points[np.isfinite(points).all(axis=1)].T)


def _smooth(value: np.ndarray) -> np.ndarray:
  """A running mean over about a fiftieth of the points."""
  window = max(1, len(value) // 50)
  total = np.cumsum(np.concatenate([[0.0], value]))
  end = np.arange(1, len(value) + 1)
  start = np.maximum(end - window, 0)
  return (total[end] - total[start]) / (end - start)
