"""What the numbers of a run say: read from results.json, put into words.

Nothing here knows what a run was meant to show. A headline says that it did not
improve where it did not, and what got worse where something did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Metric(NamedTuple):
  """How a number reads."""

  label: str
  better: int = 0  # 1 where more is better, -1 where less is
  unit: str = ''

  def text(self, value: float) -> str:
    if self.unit == '%':
      return f'{100 * value:.1f}'
    return f'{value:.1f}' if self.unit else f'{value:.3g}'

  @property
  def title(self) -> str:
    return self.label[:1].upper() + self.label[1:]

  def full(self, value: float) -> str:
    return f'{self.text(value)} {self.unit}'.strip()


METRICS = {
  'hallucination': Metric('hallucinating answers', -1, '%'),
  'mention': Metric('unsupported claims', -1, '%'),
  'coverage': Metric('things there that are mentioned', 1, '%'),
  'coverage/claims': Metric('true claims that are made', 1, '%'),
  'length': Metric('length of an answer', 0, 'words'),
  'unread': Metric('answers not understood', -1, '%'),
  'overgeneralization': Metric('over-generalisation', -1, '%'),
  'overgeneralization/room': Metric('absent but usual things', -1, '%'),
  'overgeneralization/all': Metric('absent things, in all rooms', -1, '%'),
  'vqa': Metric('questions answered right', 1, '%'),
  'vqa/yes': Metric('yes to yes-or-no questions', 0, '%'),
  'accuracy': Metric('accuracy', 1, '%'),
  'calibration': Metric('certainty apart from accuracy', -1, '%'),
  'f1': Metric('F1', 1, '%'),
  'precision': Metric('precision', 1, '%'),
  'recall': Metric('recall', 1, '%'),
  'yes': Metric('yes answers', 0, '%'),
  'score': Metric('score', 1),
  'informativeness': Metric('informativeness', 1, '%'),
  'relative': Metric('score relative to the reference', 1, '%'),
  'cognition': Metric('made up as people do', -1, '%'),
  'difference': Metric('over-generalisation', -1, '%'),
  'all': Metric('usual things made up, in all rooms', -1, '%'),
  'scene': Metric('usual things made up, where they are usual', -1, '%'),
  'unparsed': Metric('not parsed', 0, '%'),
  'unjudged': Metric('not judged', 0, '%'),
  'empty': Metric('empty answers', 0, '%'),
  'foreign': Metric('answers in another language', 0, '%'),
  'short': Metric('answers of few words', 0, '%'),
}
BY_CATEGORY = ('hallucination', 'mention')
UNSEEN = 'unseen'  # prefix: measured where training never was


class Score(NamedTuple):
  """One number of results.json; without an interval it is its own."""

  value: float
  low: float
  high: float
  n: int | None


class Row(NamedTuple):
  """One metric of all models; None where a model lacks it."""

  name: str
  metric: Metric
  scores: dict[str, Score | None]

  @property
  def known(self) -> list[Score]:
    return [score for score in self.scores.values() if score]

  @property
  def best(self) -> float | None:
    """The best value, where the models differ and one can be better."""
    values = {score.value for score in self.known}
    if len(values) < 2 or not self.metric.better:
      return None
    return max(values, key=lambda value: self.metric.better * value)

  @property
  def n(self) -> str:
    """What the scores are over; models may have made more or fewer claims."""
    ns = [score.n for score in self.known if score.n is not None]
    return '–'.join(str(n) for n in sorted({min(ns), max(ns)})) if ns else ''

  @property
  def unseen(self) -> bool:
    return self.name.startswith(f'{UNSEEN}/')

  @property
  def family(self) -> str:
    return self.name.removeprefix(f'{UNSEEN}/').partition('/')[0]

  @property
  def by_category(self) -> bool:
    return self.family in BY_CATEGORY and not self.name.endswith(self.family)


def describe(name: str) -> Metric:
  """A metric by its name, or by the longest part of it that is known."""
  if name in METRICS:
    return METRICS[name]
  head, _, tail = name.partition('/')
  if head == UNSEEN and tail:
    return describe(tail)
  if head in METRICS:
    return METRICS[head]._replace(label=f'{METRICS[head].label}: {tail}')
  last = name.rpartition('/')[2]
  return METRICS.get(last, Metric(''))._replace(label=name)


def rows(results: Mapping[str, Any]) -> list[Row]:
  """All metrics of all models, in the order in which they first appear."""
  models = results.get('models', {})
  names = dict.fromkeys(name for scores in models.values() for name in scores)
  return [
    Row(name, describe(name), {m: _score(s, name) for m, s in models.items()})
    for name in names
  ]


def _score(scores: Mapping[str, Any], name: str) -> Score | None:
  given = scores.get(name) or {}
  value = given.get('value')
  if value is None:
    return None
  low, high = given.get('low'), given.get('high')
  if low is None or high is None:
    low = high = value
  return Score(value, low, high, given.get('n'))


def compared(results: Mapping[str, Any]) -> tuple[str | None, str | None]:
  """The models before and after: the base, and the first that is not it."""
  models = list(results.get('models', {}))
  before = 'base' if 'base' in models else next(iter(models), None)
  return before, next((model for model in models if model != before), None)


def headline(results: Mapping[str, Any]) -> str:
  """What happened, what it cost and what does better, in sentences."""
  before, after = compared(results)
  if before is None:
    return 'Nothing has been measured yet.'
  judged = [
    row
    for row in rows(results)
    if row.metric.better and row.scores[before] and not row.by_category
  ]
  judged.sort(key=lambda row: row.name != BY_CATEGORY[0])
  if not judged:
    return f'Nothing was measured that says how good {before} is.'
  both = [row for row in judged if after and row.scores[after]]
  if not both:
    name, metric, scores = judged[0]
    value = metric.full(scores[before].value)
    return f'{metric.title}: {value} with {before}.'
  first, *others = both
  sentences = [
    _change(first, before, after),
    _price([row for row in others if not row.unseen], before, after),
    _rival(first, before, after),
  ]
  return ' '.join(filter(None, sentences))


def _change(row: Row, before: str, after: str) -> str:
  metric, old, new = row.metric, row.scores[before], row.scores[after]
  change = f'{metric.full(old.value)} to {metric.full(new.value)}'
  n = f' (n = {new.n})' if new.n is not None else ''
  gain = metric.better * (new.value - old.value)
  if gain <= 0:
    return f'{after} did not improve {metric.label}: from {change}{n}.'
  label = metric.title
  if not _apart(old, new):
    return (
      f'{label} went from {change} with {after}{n}, but the confidence '
      'intervals overlap: it may be chance.'
    )
  verb, less = ('rose', 'more') if metric.better > 0 else ('fell', 'fewer')
  relative = f', {100 * gain / old.value:.0f} % {less}' if old.value else ''
  return f'{label} {verb} from {change} with {after}{relative}{n}.'


def _price(rows: Sequence[Row], before: str, after: str) -> str:
  """What clearly got worse beside the metric of the headline."""
  worse = []
  for row in rows:
    old, new = row.scores[before], row.scores[after]
    loss = row.metric.better * (old.value - new.value)
    if loss > 0 and _apart(old, new):
      text = row.metric.text
      change = f'{text(old.value)} to {row.metric.full(new.value)}'
      worse.append(f'{row.metric.label} went from {change}')
  if not worse:
    return 'Nothing else that was measured got clearly worse.' if rows else ''
  more = f'; and {len(worse) - 3} more' if len(worse) > 3 else ''
  return f'The price: {"; ".join(worse[:3])}{more}.'


def _rival(row: Row, before: str, after: str) -> str:
  """The best of the other models, where it is better than `after`."""
  best, own = row.best, row.scores[after]
  others = {m: s for m, s in row.scores.items() if m not in (before, after)}
  for model, score in others.items():
    if score and score.value == best != own.value:
      doubt = '' if _apart(score, own) else ', though the intervals overlap'
      return f'{model} does better: {row.metric.full(best)}{doubt}.'
  return ''


def _apart(a: Score, b: Score) -> bool:
  return a.high < b.low or b.high < a.low


def is_part(row: Row, names: Iterable[str]) -> bool:
  """Whether a row details another: vqa/yesno is a part of vqa."""
  return row.name.rpartition('/')[0] in names


def table(results: Mapping[str, Any]) -> str:
  """Models and metrics as plain text, without parts; the best is starred."""
  models = list(results.get('models', {}))
  lines = [['', *models, 'n']]
  every = rows(results)
  names = {row.name for row in every}
  for row in every:
    if is_part(row, names):
      continue
    best = row.best
    arrow = {1: ' ↑', -1: ' ↓', 0: ''}[row.metric.better]
    unit = f' ({row.metric.unit})' if row.metric.unit else ''
    cells = [_cell(row.metric, row.scores[m], best) for m in models]
    lines.append([f'{row.name}{unit}{arrow}', *cells, row.n])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  text = [
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  ]
  rule = '-' * max(map(len, text))
  return '\n'.join([text[0], rule, *text[1:], '', headline(results)])


def _cell(metric: Metric, score: Score | None, best: float | None) -> str:
  if score is None:
    return '-'
  star = '*' if score.value == best else ' '
  low, high = metric.text(score.low), metric.text(score.high)
  interval = f'[{low}, {high}]' if score.low < score.high else ''
  return f'{metric.text(score.value)}{star} {interval:<12}'
