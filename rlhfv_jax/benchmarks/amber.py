"""AMBER: descriptions and yes-or-no questions, without a judge (Wang et al.).

The path is the official data folder: annotations.json, relation.json,
safe_words.txt, query/query_all.json. The original finds nouns with NLTK's
tagger and likens words with spaCy's vectors; both can be given (`nouns`,
`similarity`). Without them every word that relation.json knows is a noun, and
only the same word is alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhfv_jax import files
from rlhfv_jax.benchmarks import amber_nouns, asked, manner, pope, tally
from rlhfv_jax.benchmarks.composed import Composed, measure

TASKS = ('all', 'generative', 'discriminative')
# Parts of the discriminative task: the end of a type, and what it belongs to.
PARTS = {
  'existence': ('discriminative-hallucination',),
  'attribute': ('discriminative-attribute-state',
                'discriminative-attribute-number',
                'discriminative-attribute-action'),
  'state': ('discriminative-attribute-state',),
  'number': ('discriminative-attribute-number',),
  'action': ('discriminative-attribute-action',),
  'relation': ('discriminative-relation', 'relation'),
}  # fmt: skip
TINY = 0.001  # what every denominator of the original starts from


def questions(
  path: str | Path, *, images: str | Path | None = None, task: str = 'all'
) -> list[dict]:
  """The queries of a task with their pictures."""
  rows = _rows(Path(path), task)
  asks = [{'id': r['id'], 'question': r['question']} for r in rows]
  return asked.with_pictures(asks, images, [[row['image']] for row in rows])


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  task: str = 'all',
  strict: bool = True,
  nouns: Callable[[str], Sequence[str]] | None = None,
  similarity: Callable[[str, str], float] | None = None,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """CHAIR (`mention`), Cover, Hal, Cog; accuracy to F1; the AMBER score.

  "No" is the positive class of the questions. Strict wants the very words Yes
  and No, and takes no capitalised word for a known noun.
  """
  folder = Path(path)
  rows = _rows(folder, task)
  ids = [row['id'] for row in rows]
  texts = asked.texts(answers, ids, path)
  held, words = amber_nouns.holder(
    folder, strict=strict, nouns=nouns, similarity=similarity
  )
  told = [
    held(text, row['truth'], row['hallu']) if row['generative'] else None
    for text, row in zip(texts, rows, strict=True)
  ]
  said = [_said(text, strict) for text in texts]
  columns = _described(told) if any(told) else {}
  combined = {}
  if not all(told):
    columns |= _decided(said, rows)
  if any(told) and not all(told):
    draws = {'repeats': repeats, 'seed': seed}
    found = measure(columns, composed({}), **draws)['score']
    combined['score'] = {**found, 'n': len(ids)}
  return tally.result(
    'amber',
    ids,
    {**columns, **manner.columns(texts)},
    settings={'strict': strict, 'task': task, **words},
    combined=combined,
    found=[
      {'wrong_nouns': list(t.wrong)} if t else {'said': s}
      for t, s in zip(told, said, strict=True)
    ],
    official=_official(columns, rows),
    repeats=repeats,
    seed=seed,
  )


def composed(settings: Mapping[str, Any]) -> dict[str, Composed]:
  """The score, of both tasks."""
  return {'score': Composed(('mention', 'f1'), _score)}


def _said(text: str, strict: bool) -> str | None:
  if strict:
    return {'Yes': 'yes', 'No': 'no'}.get(text)
  return pope.parse(text, strict=False)


def _described(told: Sequence[amber_nouns.Held | None]) -> manner.Columns:
  zero = amber_nouns.Held((), 0, 0, 0, 0, 0)
  rows = [t or zero for t in told]
  there = [t is not None for t in told]
  return {
    'mention': ([len(t.wrong) for t in rows], [t.nouns for t in rows]),
    'coverage': ([t.covered for t in rows], [t.truths for t in rows]),
    'hallucination': ([bool(t.wrong) for t in rows], there),
    'cognition': ([t.marked for t in rows], [t.traps for t in rows]),
  }


def _decided(
  said: Sequence[str | None], rows: Sequence[Mapping]
) -> manner.Columns:
  labels = [row['truth'] if not row['generative'] else '' for row in rows]
  every = [not row['generative'] for row in rows]
  columns = pope.counts(said, labels, every, positive='no')
  for part, types in PARTS.items():
    here = [row['type'] in types for row in rows]
    if any(here):
      counts = pope.counts(said, labels, here, positive='no')
      columns |= {f'{name}/{part}': sides for name, sides in counts.items()}
  unread = [e and s is None for s, e in zip(said, every, strict=True)]
  return {**columns, 'unparsed': (unread, every)}


def _score(sums: np.ndarray) -> np.ndarray:
  """(1 - CHAIR + F1) / 2."""
  with np.errstate(invalid='ignore', divide='ignore'):
    chair, f1 = np.nan_to_num(sums[:, 0::2] / sums[:, 1::2]).T
  return (1 - chair + f1) / 2


def _official(columns: manner.Columns, rows: Sequence[Mapping]) -> dict:
  """What the original prints: percents, rounded before they are combined."""

  def percent(name: str, parts: int = 1) -> float:
    tops, bottoms = columns[name]
    return round(sum(tops) / (sum(bottoms) + parts * TINY) * 100, 1)

  made = {}
  if 'mention' in columns:
    tops, bottoms = columns['hallucination']
    clean = sum(bottoms) - sum(tops)
    made = {
      'CHAIR': percent('mention'),
      'Cover': percent('coverage'),
      'Hal': round(100 - clean / (sum(bottoms) + TINY) * 100, 1),
      'Cog': percent('cognition'),
    }
  for part in ('', *(f'/{part}' for part in PARTS)):
    if f'accuracy{part}' not in columns:
      continue
    n = len(PARTS['attribute']) if part == '/attribute' else 1
    values = [
      percent(f'{k}{part}', n) for k in ('accuracy', 'precision', 'recall')
    ]
    p, r = values[1] / 100, values[2] / 100
    slack = TINY if part == '/existence' else 0.0001
    f1 = round(2 * p * r / (p + r + slack) * 100, 1)
    names = ('Accuracy', 'Precision', 'Recall')
    made |= {f'{k}{part}': v for k, v in zip(names, values, strict=True)}
    made[f'F1{part}'] = f1
  if 'CHAIR' in made and 'F1' in made:
    made['AMBER'] = round((100 - made['CHAIR'] + made['F1']) / 2, 1)
  return made


def _rows(folder: Path, task: str) -> list[dict]:
  """Queries with their annotations: the id is the annotation's place."""
  if task not in TASKS:
    raise ValueError(f'task {task!r}: it is one of {", ".join(TASKS)}')
  known = files.read_json(folder / 'annotations.json')
  query = folder / 'query' / f'query_{task}.json'

  def make(record: dict) -> dict:
    note = known[int(record['id']) - 1]
    generative = note['type'] == 'generative'
    return {
      'id': str(record['id']),
      'question': record['query'],
      'image': record['image'],
      'type': note['type'],
      'generative': generative,
      'truth': note['truth'],
      'hallu': note['hallu'] if generative else [],
    }

  try:
    return asked.records(query, make, what='AMBER')
  except IndexError as error:
    raise ValueError(
      f'{query}: asks for more than the {len(known)} annotations beside it'
    ) from error
