"""The poster: a few pictures with the answers before and after, as one image.

Shown are the first pictures that the model got wrong before, whatever became of
them: nothing is picked for its looks.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from rlhfv_jax.report import plots
from rlhfv_jax.report.gallery import Answer, Pictures, stretches

WRONG, COLUMNS, SIZE = '#b3261e', 46, 9
WIDE, HIGH = 9.0, 1.42  # inches, of the poster and of one picture's row


def poster(
  answers: Mapping[str, Sequence[Answer]], pictures: Pictures, *, n: int = 5
) -> Figure | None:
  """Of {model: answers}, the first two models; None if nothing was wrong."""
  (before, said), (after, mended) = list(answers.items())[:2]
  later = {row['id']: row for row in mended}
  chosen = [row for row in said if row['spans'] and row['id'] in later][:n]
  if not chosen:
    return None
  with matplotlib.rc_context(plots.STYLE):
    figure = Figure(figsize=(WIDE, HIGH * len(chosen) + 0.3))
    grid = figure.add_gridspec(
      len(chosen), 3, width_ratios=(1, 2.6, 2.6), wspace=0.04, hspace=0.12,
      left=0.01, right=0.99, top=1 - 0.3 / (HIGH * len(chosen) + 0.3),
      bottom=0.02,
    )  # fmt: skip
    for line, row in enumerate(chosen):
      _picture(figure.add_subplot(grid[line, 0]), pictures(row['id']))
      both = (before, row), (after, later[row['id']])
      for column, (model, answer) in enumerate(both, 1):
        ax = figure.add_subplot(grid[line, column])
        ax.set_axis_off()
        if line == 0:
          ax.set_title(model, color=plots.INK)
        _text(ax, answer['answer'], answer['spans'])
    return figure


def _picture(ax: Axes, encoded: bytes) -> None:
  ax.imshow(np.asarray(Image.open(io.BytesIO(encoded)).convert('RGB')))
  ax.set_axis_off()


def _text(ax: Axes, text: str, spans: Sequence[Sequence]) -> None:
  """The answer in lines, what is wrong in it red and struck through."""
  inch = ax.figure.get_figwidth() * ax.get_position().width
  wide = 0.602 * SIZE / 72 / inch  # of a letter of a monospaced font
  tall = ax.figure.get_figheight() * ax.get_position().height
  high = 1.5 * SIZE / 72 / tall
  for line, column, part, wrong in laid_out(text, spans, COLUMNS):
    x, y = column * wide, 0.97 - line * high
    ax.text(
      x, y, part, transform=ax.transAxes, va='top', family='monospace',
      size=SIZE, color=WRONG if wrong else plots.INK,
    )  # fmt: skip
    if wrong:
      ends = [x, x + len(part.rstrip()) * wide]
      ax.plot(
        ends, [y - 0.42 * high] * 2, transform=ax.transAxes, color=WRONG, lw=1
      )


def laid_out(
  text: str, spans: Sequence[Sequence], columns: int
) -> Iterator[tuple[int, int, str, bool]]:
  """(line, column, piece, whether it is wrong), wrapped between words."""
  marks = np.concatenate([
    np.full(len(part), names is not None)
    for part, names in stretches(text, spans)
  ]) if text else np.zeros(0, bool)  # fmt: skip
  at = 0
  for line, words in enumerate(textwrap.wrap(text, columns)):
    start = text.index(words, at)
    at = start + len(words)
    wrong = marks[start:at]
    cuts = [0, *(np.flatnonzero(np.diff(wrong)) + 1).tolist(), len(words)]
    for a, b in zip(cuts, cuts[1:], strict=False):
      yield line, a, words[a:b], bool(wrong[a])
