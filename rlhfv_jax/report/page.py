"""The page of a report: everything inline, every text escaped.

What is not there is left out with a sentence that says so. The frame and the
looks are in report.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlhfv_jax.report import findings, frame, rewards
from rlhfv_jax.report.diagnosis import diagnose
from rlhfv_jax.report.findings import Metric, Row, Score
from rlhfv_jax.report.frame import fill, missing, stressed
from rlhfv_jax.report.gallery import Answer, Pictures, gallery

_FRAME = Path(__file__).with_name('report.html')
_TILES = ('hallucination', 'mention', 'coverage', 'vqa')
_BETTER = {1: ('↑', 'more is better'), -1: ('↓', 'less is better')}


def render(
  *,
  results: Mapping[str, Any],
  config: Mapping[str, Any],
  metrics: Mapping[str, Sequence[Mapping]],
  answers: Mapping[str, Sequence[Answer]],
  figures: Mapping[str, str],
  pictures: Pictures | None = None,
) -> str:
  """The page. `figures` are SVGs by name."""
  rows = findings.rows(results)
  experiment = str(results.get('run', {}).get('experiment', 'run'))
  return fill(
    _FRAME,
    title=escape(experiment),
    headline=stressed(findings.headline(results)),
    tiles=_tiles(rows, *findings.compared(results)),
    results=_table([row for row in rows if not row.by_category]),
    categories=_categories([row for row in rows if row.by_category], figures),
    rewards=_rewards(figures),
    training=_training(metrics, figures, experiment),
    gallery=gallery(answers, pictures),
    provenance=_provenance(results, config),
  )


def curves_name(stage: str) -> str:
  """What the curves of a stage are called; '.' is the run itself."""
  return '-'.join(['curves', *re.findall(r'\w+', stage)])


def _better(metric: Metric) -> str:
  arrow, meaning = _BETTER.get(metric.better, ('', ''))
  return f'<abbr title="{meaning}">{arrow}</abbr>' if arrow else ''


def _tiles(rows: Sequence[Row], before: str | None, after: str | None) -> str:
  """The numbers that matter most, before and after."""
  tiles = []
  for name, metric, scores in rows:
    old, new = scores.get(before), scores.get(after)
    if name in _TILES and old and new:
      tiles.append(
        f'<div class="tile"><p>{escape(metric.label)} {_better(metric)}</p>'
        f'<p class="change"><span>{metric.text(old.value)}</span> → '
        f'<b>{metric.text(new.value)}</b> {escape(metric.unit)}</p></div>'
      )
  return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ''


def _table(rows: Sequence[Row]) -> str:
  """Rows of scores, those of unseen rooms under a heading of their own."""
  if not rows:
    return missing('Nothing was evaluated.')
  models = ''.join(f'<th scope="col">{escape(m)}</th>' for m in rows[0].scores)
  names = {row.name for row in rows}
  body = ''.join(_row(row, names) for row in rows if not row.unseen)
  if unseen := ''.join(_row(row, names) for row in rows if row.unseen):
    span = len(rows[0].scores) + 2
    body += (
      f'<tr><th class="group" colspan="{span}">In rooms with things together '
      f'that training never showed together</th></tr>{unseen}'
    )
  return (
    '<div class="scroll"><table><thead><tr><th></th>'
    f'{models}<th scope="col">n</th></tr></thead><tbody>{body}</tbody></table>'
    '</div><p class="note">The best of a row is bold; beneath each number its '
    'confidence interval.</p>'
  )


def _row(row: Row, names: Iterable[str]) -> str:
  best, metric = row.best, row.metric
  part = ' class="part"' if findings.is_part(row, names) else ''
  unit = f' <small>{escape(metric.unit)}</small>' if metric.unit else ''
  cells = ''.join(_cell(metric, s, best) for s in row.scores.values())
  label = f'{escape(metric.label)}{unit} {_better(metric)}'
  return (
    f'<tr{part}><th scope="row" title="{escape(row.name)}">{label}</th>'
    f'{cells}<td class="n">{row.n}</td></tr>'
  )


def _cell(metric: Metric, score: Score | None, best: float | None) -> str:
  if score is None:
    return '<td>–</td>'
  value = metric.text(score.value)
  value = f'<b>{value}</b>' if score.value == best else value
  interval = bar = ''
  if score.low < score.high:
    low, high = metric.text(score.low), metric.text(score.high)
    interval = f'<small>{low} – {high}</small>'
    if metric.unit == '%' and score.low >= 0:
      ends = zip(('v', 'a', 'b'), score[:3], strict=True)
      ends = ';'.join(f'--{k}:{100 * x:.1f}%' for k, x in ends)
      bar = f'<i class="bar" style="{ends}"></i>'
  return f'<td>{value}{interval}{bar}</td>'


def _figure(figures: Mapping[str, str], name: str, caption: str) -> str:
  return (
    f'<figure>{figures[name]}<figcaption>{escape(caption)} '
    f'<span>{escape(name)}.png</span></figcaption></figure>'
  )


def _categories(rows: Sequence[Row], figures: Mapping[str, str]) -> str:
  if not rows:
    return missing('Nothing was evaluated by category.')
  order = findings.BY_CATEGORY.index
  rows = sorted(rows, key=lambda row: order(row.family))
  parts = [f'<div class="fine">{_table(rows)}</div>']
  if 'categories' in figures:
    caption = 'Rates by category, with confidence intervals.'
    parts.insert(0, _figure(figures, 'categories', caption))
  return ''.join(parts)


def _rewards(figures: Mapping[str, str]) -> str:
  """A section of its own, where a reward model was trained."""
  parts = [
    _figure(figures, name, caption)
    for name, caption in rewards.CAPTIONS.items()
    if name in figures
  ]
  if not parts:
    return ''
  title = '<h2>The reward model, on held-out pairs</h2>'
  return f'<section id="rewards">{title}{"".join(parts)}</section>'


def _training(
  metrics: Mapping[str, Sequence[Mapping]],
  figures: Mapping[str, str],
  experiment: str,
) -> str:
  """The curves of each stage and what is wrong with them.

  They are folded away behind the first, and where nothing is wrong.
  """
  parts = []
  for stage, rows in metrics.items():
    if (name := curves_name(stage)) in figures:
      title = escape(experiment if stage == '.' else stage)
      steps = max(row['step'] for row in rows)
      caption = 'Lines are training batches, points held-out data.'
      told = diagnose(rows)
      state = '' if parts and not told else ' open'
      parts.append(
        f'<details{state}><summary>{title}, {steps} steps</summary>'
        f'{_told(told)}{_figure(figures, name, caption)}</details>'
      )
  return ''.join(parts) or missing('No training was logged.')


def _told(sentences: Sequence[str]) -> str:
  items = ''.join(f'<li>{escape(one)}</li>' for one in sentences)
  return f'<ul class="told">{items}</ul>' if items else ''


def _provenance(results: Mapping[str, Any], config: Mapping[str, Any]) -> str:
  """Where the numbers come from, and the whole config folded away."""
  facts = {k: v for k, v in results.items() if k != 'models'}
  facts |= {k: v for k, v in config.items() if k != 'config'}
  parts = [frame.facts(facts)] if facts else []
  if config:
    text = escape(json.dumps(config.get('config', config), indent=2))
    parts.append(
      f'<details><summary>config</summary><pre>{text}</pre></details>'
    )
  return ''.join(parts) or missing('Nothing says how this came about.')
