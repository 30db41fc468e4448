"""Pictures with the answers before and after, wrong segments marked.

Which pictures are shown is decided by counting, not by taste: answers are
grouped by what became of them, and each group is sampled evenly.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

Pictures = Callable[[str], bytes | None]  # id -> PNG
Answer = Mapping[str, Any]  # id, question, answer, and spans where judged

_GROUPS = {
  (True, False): 'Mended',
  (True, True): 'Still wrong',
  (False, True): 'Newly wrong',
  (False, False): 'Right both times',
}


def gallery(
  answers: Mapping[str, Sequence[Answer]],
  pictures: Pictures | None = None,
  *,
  examples: int = 4,
) -> str:
  """HTML of {model: answers}: `examples` of each group, with their count."""
  shared = _by_question(answers)
  if not shared:
    return '<p class="missing">No answers were kept.</p>'
  judged = all('spans' in row for rows in shared for row in rows)
  groups: dict[str, list] = {}
  for rows in shared:
    wrong = tuple(bool(row['spans']) for row in rows) if judged else ()
    name = _GROUPS.get(wrong, 'Wrong' if any(wrong) else 'Right')
    groups.setdefault(name if judged else 'Answers', []).append(rows)
  parts = [_legend(judged, pictures is not None, len(shared))]
  order = [*_GROUPS.values(), 'Wrong', 'Right', 'Answers']
  for name in sorted(groups, key=order.index):
    found, number = groups[name], len(groups[name])
    shown = [found[i * number // examples] for i in range(examples)]
    shown = found if number <= examples else shown
    cards = '\n'.join(_card(list(answers), rows, pictures) for rows in shown)
    parts.append(
      f'<h3>{name} <small>{number} of {len(shared)}</small></h3>\n'
      f'<div class="cards">\n{cards}\n</div>'
    )
  return '\n'.join(parts)


def marked(text: str, spans: Sequence[Sequence]) -> str:
  """The text as HTML, its spans (start, end, category) marked.

  Spans may overlap; a stretch of text under several carries all their names.
  """
  parts = []
  for part, names in stretches(text, spans):
    part = escape(part)
    if names is not None:
      title = escape(names or 'wrong')
      part = f'<mark title="{title}"><u>{part}</u></mark>'
    parts.append(part)
  return ''.join(parts)


def stretches(
  text: str, spans: Sequence[Sequence]
) -> Iterator[tuple[str, str | None]]:
  """The text in pieces, each with the names of the spans over it, or None."""
  ends = {e for start, end, *_ in spans for e in (start, end)}
  cuts = sorted({0, len(text)} | {e for e in ends if 0 < e < len(text)})
  for start, end in zip(cuts, cuts[1:], strict=False):
    over = [span for span in spans if span[0] <= start and end <= span[1]]
    names = dict.fromkeys(name for _, _, *named in over for name in named[:1])
    yield text[start:end], ', '.join(n or '' for n in names) if over else None


def _by_question(answers: Mapping[str, Sequence[Answer]]) -> list[list[Answer]]:
  """The rows of each question that every model has answered."""
  tables = [
    {(row['id'], row['question']): row for row in rows}
    for rows in answers.values()
  ]
  if not tables:
    return []
  first, *others = tables
  return [
    [table[key] for table in tables]
    for key in first
    if all(key in table for table in others)
  ]


def _legend(judged: bool, pictured: bool, number: int) -> str:
  how = 'Taken evenly from each group' if judged else 'Taken evenly'
  say = [f'{how} of {number} answered questions.']
  if judged:
    example = marked('unsupported', [(0, 11)])
    say.append(
      f'Segments that the judge found {example} are underlined and carry '
      'their category.'
    )
  else:
    say.append('No segments were judged, so none are marked.')
  if not pictured:
    say.append('The pictures were not at hand.')
  return f'<p class="note">{" ".join(say)}</p>'


def _card(models: Sequence[str], rows: Sequence[Answer], pictures) -> str:
  image = pictures(rows[0]['id']) if pictures else None
  picture = ''
  if image is not None:
    data = base64.b64encode(image).decode()
    alt = escape(f'picture {rows[0]["id"]}')
    picture = f'<img src="data:image/png;base64,{data}" alt="{alt}">'
  answers = '\n'.join(
    f'<dt>{escape(model)}</dt>'
    f'<dd>{marked(row["answer"], row.get("spans", ()))}</dd>'
    for model, row in zip(models, rows, strict=True)
  )
  return (
    f'<article class="card">{picture}<div><p class="question">'
    f'{escape(rows[0]["question"])}</p>\n<dl>{answers}</dl></div></article>'
  )
