"""Models beside each other on the same questions, and beside what papers say.

The first model is the one that the others are held against, answer by answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhfv_jax import files
from rlhfv_jax.benchmarks import paired
from rlhfv_jax.report import findings, results
from rlhfv_jax.report.findings import Metric
from rlhfv_jax.report.results import Entry


class Line(NamedTuple):
  """A metric of all models; None where a model lacks it."""

  name: str
  metric: Metric
  values: list[dict | None]  # as `score` gives them
  changes: list[dict | None]  # of the second and later models, paired.compare
  part: bool  # of another metric


class Table(NamedTuple):
  """A benchmark with all that is known of it."""

  benchmark: str
  entries: list[Entry]
  lines: list[Line]
  published: list[dict]
  notes: list[str]

  def result(self, entry: Entry) -> dict:
    return entry.results[self.benchmark]


def tables(entries: Sequence[Entry]) -> list[Table]:
  """A table for each benchmark that any of the models was measured on."""
  names = dict.fromkeys(name for e in entries for name in e.results)
  return [_table(n, [e for e in entries if n in e.results]) for n in names]


def _table(benchmark: str, entries: list[Entry]) -> Table:
  given = [entry.results[benchmark] for entry in entries]
  changes, notes = [], []
  for entry, result in zip(entries[1:], given[1:], strict=True):
    try:
      changes.append(paired.compare(given[0], result))
    except ValueError as error:
      changes.append({})
      notes.append(
        f'{entries[0].name} and {entry.name} are not compared: {error}'
      )
  names = list(dict.fromkeys(n for r in given for n in r['metrics']))
  lines = [
    Line(
      name,
      findings.describe(name),
      [result['metrics'].get(name) for result in given],
      [change.get(name) for change in changes],
      name.rpartition('/')[0] in names,
    )
    for name in names
  ]
  for entry, result in zip(entries, given, strict=True):
    notes += [f'{entry.name}: {text}' for text in result.get('warnings', ())]
  return Table(benchmark, entries, lines, _published(given, names), notes)


def _published(given: Iterable[Mapping], names: Sequence[str]) -> list[dict]:
  """Rows of papers that share a metric with ours."""
  rows = next((r['published'] for r in given if r.get('published')), [])
  return [row for row in rows if set(row['metrics']) & set(names)]


def first(table: Table) -> Line:
  """The metric that a benchmark is about: the first that can be better."""
  whole = (x for x in table.lines if x.metric.better and not x.part)
  return next(whole, table.lines[0])


def about(result: Mapping[str, Any]) -> str:
  """How a result came about, in a line."""
  judge, decoding = result.get('judge', ''), result.get('decoding') or {}
  if isinstance(judge, Mapping):
    served = ', '.join(dict.fromkeys(n for run in judge['served'] for n in run))
    judge = judge['model'] + (f' (served: {served})' if served else '')
  hashed = (result.get('data') or {}).get('path', {}).get('hash', '')
  said = [
    f'n = {result.get("n", len(result["answers"]))}',
    f'judge: {judge or "none"}',
    f'{result["runs"]} runs of it' if result.get('runs') else '',
    _decoded(decoding),
    f'data {hashed}' if hashed else '',
  ]
  return ', '.join(filter(None, said))


def _decoded(decoding: Mapping[str, Any]) -> str:
  if not decoding:
    return ''
  heat = decoding.get('temperature', 0)
  how = f'temperature {heat:g}' if heat else 'greedy'
  if (beams := decoding.get('beams', 1)) > 1:
    how = f'{beams} beams'
  return f'{how}, at most {decoding.get("max_new")} tokens'


def value(metric: Metric, given: Mapping[str, Any] | None) -> str:
  """A number with its interval, and its spread over runs of the judge.

  What nothing was measured on has none, though it is stored as 0.
  """
  if given is None or not given['n']:
    return '-'
  text = metric.text(given['value'])
  if given['low'] < given['high']:
    text += f' [{metric.text(given["low"])}, {metric.text(given["high"])}]'
  return (
    f'{text} ±{metric.text(given["spread"])}' if 'spread' in given else text
  )


def change(metric: Metric, given: Mapping[str, Any] | None) -> str:
  """A difference with its interval, starred if that is on one side of 0."""
  if given is None or not given['n']:
    return '-'
  sign = lambda x: ('+' if x > 0 else '') + metric.text(x)
  star = '*' if given['low'] > 0 or given['high'] < 0 else ''
  low, high = sign(given['low']), sign(given['high'])
  return f'{sign(given["difference"])}{star} [{low}, {high}]'


def text(table: Table, *, parts: bool = False) -> str:
  """A table for the terminal, with what papers report below it."""
  first, *others = table.entries
  head = [table.benchmark, *(e.name for e in table.entries)]
  for entry in others:
    head += [f'{entry.name} - {first.name}', 'up', 'down', 'same']
  rows = [[*head, 'n']]
  for line in table.lines:
    if not line.part or parts:
      rows.append(cells(line))
  told = [f'  {e.name}: {about(table.result(e))}' for e in table.entries]
  return '\n'.join(
    [columns(rows), *told, *(f'  note: {note}' for note in table.notes),
     *_reported(table)]
  )  # fmt: skip


def cells(line: Line) -> list[str]:
  metric = line.metric
  arrow = {1: ' ↑', -1: ' ↓', 0: ''}[metric.better]
  unit = f' ({metric.unit})' if metric.unit else ''
  cells = [f'{line.name}{unit}{arrow}']
  cells += [value(metric, given) for given in line.values]
  for given in line.changes:
    counts = (
      [str(given[k]) for k in ('up', 'down', 'same')] if given else ['-'] * 3
    )
    cells += [change(metric, given), *counts]
  ns = sorted({v['n'] for v in line.values if v})
  return [*cells, '–'.join(f'{n:g}' for n in dict.fromkeys((ns[0], ns[-1])))]


def _reported(table: Table) -> list[str]:
  """What papers say, a table for each source and judge."""
  ours = [line.name for line in table.lines]
  groups: dict[tuple, list] = {}
  for row in table.published:
    groups.setdefault((row['source'], row['judge']), []).append(row)
  told = []
  for (source, judge), rows in groups.items():
    names = [n for n in ours if any(n in row['metrics'] for row in rows)]
    metrics = [findings.describe(name) for name in names]
    cells = [['', *names]] + [
      [row['model'], *(reported(m, row['metrics'].get(n))
                       for m, n in zip(metrics, names, strict=True))]
      for row in rows
    ]  # fmt: skip
    told += ['', f'reported in {source}; judge: {judge}', columns(cells)]
  return told


def reported(metric: Metric, number: float | None) -> str:
  return '-' if number is None else metric.text(number)


def columns(rows: Sequence[Sequence[str]]) -> str:
  """Rows as plain text: names to the left, numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def tell(
  paths: Sequence[str | Path], out: Path | None, *, parts: bool = False
) -> None:
  """Prints the tables of these results, and writes their page."""
  found = tables(results.read(paths))
  print('\n\n'.join(text(table, parts=parts) for table in found))
  if out is not None:
    from rlhfv_jax.report import (
      comparison_page,  # who reads a table needs no plots,
    )

    files.write_text(out, comparison_page.render(found))
    print(f'\n{out}')
