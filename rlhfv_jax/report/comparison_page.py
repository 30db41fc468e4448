"""The page of a comparison: tables, differences, answers side by side."""

from __future__ import annotations

import functools
import importlib
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from rlhfv_jax.report import comparison, plots
from rlhfv_jax.report.comparison import Line, Table
from rlhfv_jax.report.forest import forest
from rlhfv_jax.report.frame import facts, fill, missing, stressed
from rlhfv_jax.report.gallery import gallery

_FRAME = Path(__file__).with_name('comparison.html')
_SIDE = 320  # pixels of a picture on the page
_MOST = 14  # lines of a plot


def render(tables: Sequence[Table]) -> str:
  """The whole page, everything inline."""
  names = list(dict.fromkeys(e.name for t in tables for e in t.entries))
  return fill(
    _FRAME,
    title=escape(' · '.join(names)),
    headline=' '.join(stressed(headline(t)) for t in tables),
    sections='\n'.join(map(_section, tables)),
  )


def headline(table: Table) -> str:
  """What became of the number that matters, or of the first part of it."""
  line = comparison.first(table)
  parts = [x for x in table.lines if x.name.startswith(f'{line.name}/')]
  line = next((x for x in (line, *parts) if any(x.changes)), line)
  metric = line.metric
  if not line.changes or not line.changes[0]:
    return f'{table.benchmark}: {metric.label} {_full(line)}.'
  change, other = line.changes[0], table.entries[1].name
  clear = change['low'] > 0 or change['high'] < 0
  better = metric.better * change['difference'] > 0
  how = ('better' if better else 'worse') if clear else 'not clearly changed'
  return (
    f'{table.benchmark}: {metric.label} {how} with {other}, {_full(line)} '
    f'({comparison.change(metric, change).replace("*", "")}).'
  )


def _full(line: Line) -> str:
  known = [v for v in line.values if v]
  texts = [line.metric.text(v['value']) for v in known[:2]]
  return f'{" to ".join(texts)} {line.metric.unit}'.strip()


def _section(table: Table) -> str:
  notes = ''.join(f'<li>{escape(note)}</li>' for note in table.notes)
  parts = [
    f'<section id="{table.benchmark}"><h2>{escape(table.benchmark)}</h2>',
    _plot(table),
    _lines(table),
    f'<ul class="note">{notes}</ul>' if notes else '',
    _published(table),
    '<details><summary>Answers, side by side</summary>',
    _answers(table),
    '</details>',
    facts({e.name: comparison.about(table.result(e)) for e in table.entries}),
    '</section>',
  ]
  return '\n'.join(filter(None, parts))


def _lines(table: Table) -> str:
  first, *others = table.entries
  head = [e.name for e in table.entries]
  for entry in others:
    head += [f'{entry.name} − {first.name}', 'up', 'down', 'same']
  rows = ''.join(_row(line) for line in table.lines)
  return (
    f'<div class="scroll"><table><thead>{_cells("th", ["", *head, "n"])}'
    f'</thead><tbody>{rows}</tbody></table></div><p class="note">Intervals are '
    'of 95 %. A star marks a difference whose interval is on one side of 0; '
    'up, down and same count answers.</p>'
  )


def _row(line: Line) -> str:
  name, *cells = comparison.cells(line)
  return (
    f'<tr{" class=part" if line.part else ""}><th scope="row" '
    f'title="{escape(line.metric.label)}">{escape(name)}</th>'
    f'{"".join(map(_cell, cells))}</tr>'
  )


def _cell(text: str) -> str:
  """A number over its interval, or a count."""
  if text.isdigit():
    return f'<td class="n">{text}</td>'
  number, bracket, rest = text.partition(' [')
  interval = f'<small>[{escape(rest)}</small>' if bracket else ''
  return f'<td>{escape(number)}{interval}</td>'


def _cells(tag: str, texts: Sequence[str]) -> str:
  inner = ''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)
  return f'<tr>{inner}</tr>'


def _published(table: Table) -> str:
  """Ours beside the papers' numbers, with source and judge named."""
  if not table.published:
    return ''
  named = {name for row in table.published for name in row['metrics']}
  ours = [line for line in table.lines if line.name in named]
  rows = [
    [entry.name, *(_plain(line, i) for line in ours), 'this', _judge(table, i)]
    for i, entry in enumerate(table.entries)
  ] + [
    [row['model'],
     *(comparison.reported(x.metric, row['metrics'].get(x.name)) for x in ours),
     row['source'], row['judge']]
    for row in table.published
  ]  # fmt: skip
  head = ['', *(line.name for line in ours), 'source', 'judge']
  return (
    '<details><summary>Beside what papers report</summary><div class="scroll">'
    f'<table><thead>{_cells("th", head)}</thead><tbody>'
    f'{"".join(_cells("td", row) for row in rows)}</tbody></table></div>'
    '<p class="note">Other judges, prompts and decodings: numbers of different '
    'judges are not comparable.</p></details>'
  )


def _plain(line: Line, i: int) -> str:
  given = line.values[i]
  return comparison.reported(line.metric, given and given['value'])


def _judge(table: Table, i: int) -> str:
  judge = table.result(table.entries[i]).get('judge', '')
  return judge if isinstance(judge, str) else judge['model']


def _plot(table: Table) -> str:
  """The differences, or the numbers themselves of one model alone."""
  lines = [x for x in table.lines if x.metric.unit == '%' and x.metric.better]
  first, *others = table.entries
  lines = [x for x in lines if any(x.changes if others else x.values)]
  lines = ([x for x in lines if not x.part] or lines)[:_MOST]
  if not lines:
    return ''
  if others:
    title = f'Difference to {first.name}'
    series = {e.name: [_interval(x.changes[i]) for x in lines]
              for i, e in enumerate(others)}  # fmt: skip
  else:
    title = first.name
    series = {title: [_interval(x.values[0]) for x in lines]}
  arrows = {1: '↑', -1: '↓'}
  names = [f'{x.name} {arrows[x.metric.better]}' for x in lines]
  figure = forest(names, series, title=title, zero=bool(others))
  return f'<figure>{plots.svg(figure, f"forest-{table.benchmark}")}</figure>'


def _interval(given: dict | None) -> tuple[float, float, float] | None:
  if not given:
    return None
  value = given.get('difference', given.get('value'))
  return value, given['low'], given['high']


def _answers(table: Table) -> str:
  """Answers to the same questions, with what was found wrong in them."""
  wrong = {
    e.name: {a['id']: a.get('wrong') for a in table.result(e)['answers']}
    for e in table.entries
  }
  said = {e.name: e.answers(table.benchmark) for e in table.entries}
  if not all(said.values()):
    return missing('The answers are not beside the results.')
  marked = all(map(_marked, wrong.values()))
  note = ''
  if marked:
    said = {
      name: [{**row, 'spans': spans} for row in rows
             if (spans := wrong[name].get(row['id'])) is not None]
      for name, rows in said.items()
    }  # fmt: skip
  else:
    changed, name = _changed(table)
    if changed:
      said = {k: [r for r in v if r['id'] in changed] for k, v in said.items()}
      note = (
        f'<p class="note">{len(changed)} answers whose {escape(name)} changed.'
        '</p>'
      )
  return note + gallery(said, _pictures(table))


def _marked(wrong: Mapping[str, Sequence | None]) -> bool:
  """Whether it is known where in the answers the wrong is, if there is any."""
  known = [spans for spans in wrong.values() if spans is not None]
  return bool(known) and all(s[0] < s[1] for spans in known for s in spans)


def _changed(table: Table) -> tuple[set[str], str]:
  """Ids of answers that count otherwise in the first metric or its parts."""
  name = comparison.first(table).name
  if len(table.entries) < 2:
    return set(), name
  one, other = (
    {
      a['id']: {k: c for k, c in a['counts'].items()
                if k == name or k.startswith(f'{name}/')}
      for a in table.result(e)['answers']
    }
    for e in table.entries[:2]
  )  # fmt: skip
  return {i for i in one if one[i] != other.get(i)}, name


def _pictures(table: Table) -> Callable[[str], bytes | None] | None:
  """Pictures by question, from where the answers' questions came from."""
  entry = table.entries[0]
  data = table.result(entry).get('data') or {}
  module = importlib.import_module(f'rlhfv_jax.benchmarks.{table.benchmark}')
  path = Path(data.get('path', {}).get('path', ''))
  path = path if path.exists() else entry.folder / path.name
  if not path.name or not path.exists():
    return None
  options = {}
  if (
    'images' in data
    and 'images' in inspect.signature(module.questions).parameters
  ):
    options['images'] = data['images']['path']
  try:
    asks = {q['id']: q for q in module.questions(path, **options)}
  except (ValueError, OSError):
    return None

  @functools.cache
  def picture(id: str) -> bytes | None:
    q = asks.get(id, {})
    encoded = q.get('image')
    if encoded is None and q.get('image_path'):
      encoded = Path(q['image_path']).read_bytes()
    return encoded and _small(encoded)

  return picture


def _small(encoded: bytes) -> bytes:
  with Image.open(io.BytesIO(encoded)) as image, io.BytesIO() as out:
    image = image.convert('RGB')
    image.thumbnail((_SIDE, _SIDE))
    image.save(out, 'PNG')
    return out.getvalue()
