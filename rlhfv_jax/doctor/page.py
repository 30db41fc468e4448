"""The page of a data check: the verdict, the problems, the rows themselves.

The frame and what moves in it are in doctor.html; only that script may run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlhfv_jax.doctor import lengths as row_lengths
from rlhfv_jax.doctor.alike import ALIKE_TEXTS
from rlhfv_jax.doctor.exam import REWRITE
from rlhfv_jax.doctor.pictures import ALIKE_BITS
from rlhfv_jax.doctor.problems import WHOLE_SET, Case, Problem
from rlhfv_jax.doctor.summary import Summary, sentences, shape
from rlhfv_jax.doctor.verdict import Report
from rlhfv_jax.report.frame import facts, fill, missing, stressed

_FRAME = Path(__file__).with_name('doctor.html')
_LISTED = 200
MEANINGS = {
  'a rewrite': f'over {100 * REWRITE:.0f} % of the characters of an answer',
  'alike answers': f'{100 * ALIKE_TEXTS:.0f} % of their runs of three words',
  'alike pictures': f'all but {ALIKE_BITS} of 256 bits of their slow waves',
}
_MARKS = {'error': '✗', 'warning': '!', 'note': 'i'}


def render(
  report: Report,
  *,
  cards: Mapping[int, str],
  figures: Mapping[str, str],
  options: Mapping[str, Any],
) -> str:
  """The page. `cards` are rows' HTML by number, `figures` SVGs by name."""
  s = report.summary
  return fill(
    _FRAME,
    script_hash=_script_hash(),
    title=escape(report.name),
    safe='safe' if report.safe else 'unsafe',
    headline=stressed(report.headline),
    tiles=_tiles(report),
    problems=''.join(_problem(p, cards, report) for p in report.problems)
    or missing('Nothing.'),
    contents=_contents(s),
    lengths=_figure(figures, 'lengths', _LENGTHS) + _buckets(s),
    corrections=_figure(figures, 'corrections', _CORRECTIONS)
    or missing('There are no pairs.'),
    choices=_choices(report, cards),
    cards='\n'.join(cards.values()) or missing('No row could be shown.'),
    options=facts(options),
  )


_LENGTHS = (
  'How long rows are. Dotted lines are what the buckets hold; what is too long '
  'for the trunk moves into the branches, but for the prompt.'
)
_CORRECTIONS = (
  'Corrections of each pair. Dotted lines are means. What is shared before the '
  'first correction is computed once for both answers.'
)


def _script_hash() -> str:
  """Of the frame's own script, so that a browser runs no other."""
  frame = _FRAME.read_text('utf-8')
  script = re.search(r'<script>(.*?)</script>', frame, re.DOTALL)[1]
  digest = hashlib.sha256(script.encode()).digest()
  return 'sha256-' + base64.b64encode(digest).decode()


def _tiles(report: Report) -> str:
  s = report.summary
  told = [
    ('rows that can be used', f'{s.usable:,}', f'of {s.rows:,}'),
    ('different pictures', f'{s.pictures:,}', ''),
  ]
  if s.pairs:
    corrected, shared = 100 * s.corrected.mean(), 100 * s.shared.mean()
    told += [
      ('corrected segments', f'{s.segments.mean():.2f}', 'a pair'),
      (f'of the {s.unit} corrected', f'{corrected:.1f}', '%'),
      ('shared before the first', f'{shared:.1f}', '%'),
    ]
  return ''.join(
    f'<div class="tile"><p>{escape(what)}</p><p class="change"><b>{value}</b> '
    f'{escape(unit)}</p></div>'
    for what, value, unit in told
  )


def _problem(problem: Problem, cards: Mapping, report: Report) -> str:
  rows = ''.join(_case(case, cards, report) for case in problem.cases[:_LISTED])
  more = len(problem.cases) - _LISTED
  if more > 0:
    where = escape(report.list.name)
    rows += f'<tr><td>and {more:,} more</td><td>in {where}</td></tr>'
  return (
    f'<details class="problem {problem.level}"><summary>'
    f'<span class="badge"><span aria-hidden="true">{_MARKS[problem.level]}'
    f'</span> {problem.level}</span> <b>{escape(problem.kind)}</b> '
    f'<span class="n">{escape(problem.text)}</span>'
    f'<span class="way">{escape(problem.way_out)}</span></summary>'
    f'<div class="scroll cases"><table><thead><tr><th scope="col">row</th>'
    f'<th scope="col">what</th></tr></thead><tbody>{rows}</tbody></table></div>'
    '</details>'
  )


def _case(case: Case, cards: Mapping, report: Report) -> str:
  name = 'all' if case.index == WHOLE_SET else str(case.index)
  if case.id and case.id != f'row {case.index}':
    name += f' · {case.id}'
  name = escape(name)
  if case.index in cards:
    name = f'<a href="#row-{case.index}">{name}</a>'
  where = report.where(case.index)
  what = f'{where}: {report.what(case)}' if where else case.detail
  return f'<tr><td>{name}</td><td>{escape(what)}</td></tr>'


def _contents(s: Summary) -> str:
  """What the rows are, and by what they can be counted."""
  told = dict(sentences(s))
  kept = {what: told[what] for what in ('usable', 'answers', 'corrections',
                                        'spans') if what in told}  # fmt: skip
  tables = [
    _counts(name, counter) for name, counter in s.counts.items() if counter
  ]
  return facts(kept) + f'<div class="counts">{"".join(tables)}</div>'


def _counts(name: str, counter: Counter, most: int = 12) -> str:
  """A bar a value: how many of all."""
  total = counter.total()
  rows = ''.join(
    f'<tr><th scope="row">{escape(value)}</th><td class="n">{n:,}</td>'
    f'<td class="share">{100 * n / total:.1f} %<i class="meter" '
    f'style="--v:{100 * n / total:.2f}%"></i></td></tr>'
    for value, n in counter.most_common(most)
  )
  if (rest := len(counter) - most) > 0:
    rows += f'<tr><th scope="row">and {rest} more</th><td></td><td></td></tr>'
  return f'<table class="fine"><caption>By {name}</caption>{rows}</table>'


def _buckets(s: Summary) -> str:
  if not s.lengths.buckets:
    return missing(
      'Lengths are in words: give a tokenizer and its chat template, and rows '
      'are laid into buckets.'
    )
  rows = []
  for b, bucket in enumerate(s.lengths.buckets):
    n, waste = row_lengths.padding(s.lengths, b)
    rows.append(
      f'<tr><th scope="row">{shape(bucket)}</th><td>{n:,}</td>'
      f'<td>{100 * waste:.1f} %</td></tr>'
    )
  return (
    '<div class="scroll"><table class="fine"><thead><tr><th>bucket: trunk + '
    'answers x branch</th><th scope="col">rows</th><th scope="col">padding</th>'
    f'</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
  )


def _figure(figures: Mapping[str, str], name: str, caption: str) -> str:
  if name not in figures:
    return ''
  return (
    f'<figure>{figures[name]}<figcaption>{escape(caption)}</figcaption>'
    '</figure>'
  )


def _choices(report: Report, cards: Mapping[int, str]) -> str:
  """The filters: problems that a shown row has, then categories."""
  problems = [
    p.kind for p in report.problems if any(c.index in cards for c in p.cases)
  ]
  groups = {'with': problems, 'about': list(report.summary.counts['category'])}
  return ''.join(
    f'<optgroup label="{label}">{_options(names)}</optgroup>'
    for label, names in groups.items()
    if names
  )


def _options(names: Sequence[str]) -> str:
  return ''.join(f'<option>{escape(name)}</option>' for name in names)
