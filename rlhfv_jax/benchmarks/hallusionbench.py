"""HallusionBench: questions in groups that only sight answers (Guan et al.).

A judge says whether an answer agrees with the truth; without one, the answer's
yes or no is held against it, which is another measure and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, manner, pope, tally
from rlhfv_jax.benchmarks.judging import fill, matched, request, template

WRONG, RIGHT, UNCLEAR = 0, 1, 2
JUDGE = {'temperature': 0}


def questions(
  path: str | Path, *, images: str | Path | None = None
) -> list[dict]:
  """All questions; some are asked without a picture and have none."""
  rows = _rows(path)
  asks = [{'id': r['id'], 'question': r['question']} for r in rows]
  return asked.with_pictures(asks, images, [row['files'] for row in rows])


def prompts(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  prompt: str | Path | None = None,
) -> list[dict]:
  """A request for each answer; `prompt` is the path of another template."""
  rows = _rows(path)
  texts = asked.texts(answers, [row['id'] for row in rows], path)
  asks = template('hallusionbench', prompt)
  return [
    request(
      row['id'],
      fill(asks, question=row['question'], reference=row['details'],
           answer=text),
      **JUDGE,
    )
    for row, text in zip(rows, texts, strict=True)
  ]  # fmt: skip


def verdict(reply: str, strict: bool = True) -> int | None:
  """RIGHT, WRONG or UNCLEAR.

  Strict is the original: it looks for "incorrect", then for "correct", and all
  else is unclear. Lenient wants one of the three words, the last that is there.
  """
  text = reply.lower()
  if strict:
    if 'incorrect' in text:
      return WRONG
    return RIGHT if 'correct' in text else UNCLEAR
  words = re.findall(r'\b(not correct|incorrect|correct|unclear)\b', text)
  named = {'correct': RIGHT, 'unclear': UNCLEAR}
  return named.get(words[-1], WRONG) if words else None


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  replies: Mapping[str, str] | None = None,
  strict: bool = True,
  judge: str = '',
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Accuracy an answer (aAcc), a question (qAcc), a figure (fAcc), easy, hard.

  A question is right if it is in all its figures, a figure if all questions
  about it are. "easy" and "hard" are qAcc over pictures as they were and as
  they were edited. Groups with an answer of unknown worth are left out.
  """
  rows = _rows(path)
  ids = [row['id'] for row in rows]
  texts = asked.texts(answers, ids, path)
  said = [pope.parse(text, False) for text in texts]
  if replies is None:
    given: list = texts
    values = [
      _by_word(word, r['truth']) for word, r in zip(said, rows, strict=True)
    ]
    unread = [word is None for word in said]
  else:
    given = matched(replies, ids)
    values = [None if r is None else verdict(r, strict) for r in given]
    unread = [r is not None and verdict(r, False) is None for r in given]
  right = [
    _correct(value, row) for value, row in zip(values, rows, strict=True)
  ]
  known = [value is not None for value in values]
  columns = {
    'accuracy': ([bool(r) for r in right], known),
    **{
      f'accuracy/{name}': _groups(rows, right, key)
      for name, key in _GROUPS.items()
    },
    'unclear': ([value == UNCLEAR for value in values], known),
    'yes': ([word == 'yes' for word in said], [1] * len(ids)),
    'unjudged': ([r is None for r in given], [1] * len(ids)),
    'unparsed': (unread, [r is not None for r in given]),
    **manner.columns(texts),
  }
  percent = lambda c: (
    round(100 * sum(c[0]) / sum(c[1]), 4) if sum(c[1]) else None
  )
  return tally.result(
    'hallusionbench',
    ids,
    columns,
    settings={
      'strict': strict,
      'judge': judge,
      'by': 'yes or no' if replies is None else 'judge',
    },
    found=[{'verdict': value} for value in values],
    official={name: percent(columns[name]) for name in columns
              if name.startswith('accuracy')},
    repeats=repeats,
    seed=seed,
  )  # fmt: skip


def _by_word(said: str | None, truth: str) -> int:
  return UNCLEAR if said is None else RIGHT if said == truth else WRONG


def _correct(value: int | None, row: Mapping) -> bool | None:
  """Not to know is right where no picture was shown."""
  if value is None:
    return None
  unseen = row['category'] == 'VS' and row['figure'] == '0'
  return value == RIGHT or (unseen and value == UNCLEAR)


def _question(row: Mapping) -> tuple | None:
  return row['category'], row['subcategory'], row['set'], row['question_id']


def _figure(row: Mapping) -> tuple | None:
  if row['category'] == 'VS' and row['figure'] == '0':
    return None
  return row['category'], row['subcategory'], row['set'], row['figure']


_GROUPS = {
  'question': _question,
  'figure': _figure,
  'easy': lambda row: None if row['input'] == '2' else _question(row),
  'hard': lambda row: _question(row) if row['input'] == '2' else None,
}


def _groups(
  rows: Sequence[Mapping], right: Sequence[bool | None], key: Any
) -> tuple[list[float], list[float]]:
  """All right or not, for each group; it stands at the group's first row."""
  members: dict[tuple, list[int]] = {}
  for i, row in enumerate(rows):
    if (group := key(row)) is not None:
      members.setdefault(group, []).append(i)
  tops, bottoms = [0.0] * len(rows), [0.0] * len(rows)
  for group in members.values():
    values = [right[i] for i in group]
    if None not in values:
      tops[group[0]], bottoms[group[0]] = float(all(values)), 1.0
  return tops, bottoms


def _rows(path: str | Path) -> list[dict]:
  def make(record: dict) -> dict:
    keys = ('category', 'subcategory', 'set_id', 'figure_id', 'question_id')
    name = str(record.get('filename') or '').removeprefix('./')
    return {
      'id': '/'.join(str(record[key]) for key in keys),
      'question': record['question'],
      'details': record['gt_answer_details'],
      'truth': {'1': 'yes', '0': 'no'}[str(record['gt_answer'])],
      'category': record['category'],
      'subcategory': record['subcategory'],
      'set': str(record['set_id']),
      'figure': str(record['figure_id']),
      'question_id': str(record['question_id']),
      'input': str(record['visual_input']),
      # The archive's own folder may stand in the name.
      'files': [name, name.partition('/')[2]] if name else [],
    }

  rows = asked.records(path, make, what='HallusionBench')
  ids = asked.unique(row['id'] for row in rows)
  return [{**row, 'id': i} for i, row in zip(ids, rows, strict=True)]
