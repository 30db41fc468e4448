"""Numbers that papers report, to stand beside ours: published/<benchmark>.txt.

A file is made of tables. `source:` and `judge:` lines hold for the tables below
them; a table starts with its column names. A column with % holds percents,
which are kept as fractions; - says that a number was not reported.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name('published')


def published(benchmark: str) -> list[dict]:
  """Rows of model, source, judge and metrics by our names; maybe none."""
  path = FOLDER / f'{benchmark}.txt'
  if not path.exists():
    return []
  about = {'source': '', 'judge': ''}
  names: list[str] = []
  rows = []
  for line in path.read_text('utf-8').splitlines():
    cells = [cell.strip() for cell in line.split('|')]
    key, colon, value = line.partition(': ')
    if len(cells) == 1:
      names = []
      if colon and key in about:
        about[key] = value.strip()
    elif not names:
      names = cells[1:]
    else:
      rows.append({
        'model': cells[0],
        **about,
        'metrics': _metrics(names, cells[1:]),
      })  # fmt: skip
  return rows


def _metrics(names: list[str], cells: list[str]) -> dict[str, float]:
  return {
    name.removesuffix(' %'): round(
      float(cell) / (100 if name.endswith(' %') else 1), 6
    )
    for name, cell in zip(names, cells, strict=True)
    if cell != '-'
  }
