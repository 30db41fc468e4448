"""Charts: small SVGs without a style of their own, which the page gives."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 420, 190


def bars(rows: Sequence[tuple[str, int, float | None]]) -> Markup:
  """Counts by name as shares, each with a mark at what to compare it with."""
  total = max(sum(n for _, n, _ in rows), 1)
  most = max([100 * n / total for _, n, _ in rows] + [m or 0 for *_, m in rows])
  scale, step, parts = 250 / most, 26, []
  for i, (name, n, mark) in enumerate(rows):
    y, share = i * step, 100 * n / total
    parts.append(
      f'<text class="name" x="74" y="{y + 16}">{escape(name)}</text>'
      f'<rect class="column c{i}" x="84" y="{y + 4}" rx="2" '
      f'width="{share * scale:.1f}" height="16"/>'
      f'<text class="value" x="{90 + max(share, mark or 0) * scale:.1f}" '
      f'y="{y + 16}">{share:.0f} % · {n:,}</text>'
    )
    if mark:
      x = 84 + mark * scale
      parts.append(f'<path class="mark" d="M{x:.1f} {y + 1}v22"/>')
  return _svg(parts, len(rows) * step, 'segments by category')


def histogram(seconds: Sequence[float]) -> Markup:
  """How long an item takes; what is longer stands in the last bar."""
  top = max(sorted(seconds)[int(0.95 * (len(seconds) - 1))], 1)
  width = _nice(top / 12)
  counts = [0] * (math.ceil(top / width) + 1)
  for second in seconds:
    counts[min(int(second / width), len(counts) - 1)] += 1
  most, each = max(counts), (_WIDTH - 40) / len(counts)
  parts = [
    f'<rect class="column" x="{30 + i * each:.1f}" rx="1.5" '
    f'y="{150 - 130 * n / most:.1f}" width="{each - 2:.1f}" '
    f'height="{130 * n / most:.1f}"/>'
    for i, n in enumerate(counts)
  ]
  for i in range(0, len(counts), max(1, len(counts) // 5)):
    parts.append(
      f'<text class="tick" x="{30 + i * each:.1f}" y="168">{i * width:g}</text>'
    )
  parts.append(_axes(most) + _label('seconds an item'))
  return _svg(parts, _HEIGHT, 'seconds an item')


def growth(times: Sequence[float]) -> Markup:
  """Records as they came in."""
  first, last, n = times[0], times[-1], len(times)
  span = max(last - first, 1e-9)
  points = ' '.join(
    f'{30 + 370 * (t - first) / span:.1f},{150 - 130 * (i + 1) / n:.1f}'
    for i, t in enumerate(times)
  )
  unit, size = next(
    (u for u in (('days', 86400), ('hours', 3600), ('minutes', 60))
     if span > 2 * u[1]), ('seconds', 1),
  )  # fmt: skip
  parts = [
    f'<polygon class="area" points="30,150 {points} 400,150"/>'
    f'<polyline class="line" points="{points}"/>',
    _axes(n),
    f'<text class="label" x="410" y="168">{span / size:.1f}</text>',
    _label(f'{unit} since the first record'),
  ]
  return _svg(parts, _HEIGHT, 'records over time')


def _axes(most: int) -> str:
  return (
    '<path class="axis" d="M30 150.5H410"/>'
    f'<text class="name" x="24" y="26">{most:,}</text>'
    '<text class="name" x="24" y="154">0</text>'
  )


def _label(text: str) -> str:
  return f'<text class="label" x="410" y="186">{escape(text)}</text>'


def _nice(size: float) -> float:
  """1, 2 or 5 times a power of ten."""
  power = 10 ** math.floor(math.log10(size))
  return next(n * power for n in (1, 2, 5, 10) if n * power >= size)


def _svg(parts: Sequence[str], height: float, what: str) -> Markup:
  return Markup(  # names in it are escaped
    f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
    f'aria-label="{escape(what)}">{"".join(parts)}</svg>'
  )
