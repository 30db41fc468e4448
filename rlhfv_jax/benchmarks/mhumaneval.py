"""MHumanEval: people mark what is wrong in answers, and of which type.

They do it in `annotate --mode=label`, whose folder holds what everybody said,
or on the page that `mhumaneval_sheet.export` writes, of which each saves a file
of labels. `score` reads either for one model. An answer's mark is made of the
question and the answer's text, so no key has to be kept.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked, manner, tally
from rlhfv_jax.data.formats import annotations

TYPES = ('object', 'position', 'number', 'other')
FORMAT = 'rlhfv_jax mhumaneval labels 1'


def questions(
  path: str | Path, *, images: str | Path | None = None
) -> list[dict]:
  """The sample's questions: records of id, question, image or image_file.

  The paper's sample is 50 questions of Object HalBench and MMHal-Bench's 96;
  mhumaneval_sheet.sample draws such a file.
  """
  rows = _rows(path)
  names = [[row['file']] if row['file'] else [] for row in rows]
  asks = [
    {'id': r['id'], 'question': r['question']}
    | ({'image': base64.b64decode(r['image'])} if r['image'] else {})
    for r in rows
  ]
  return asked.with_pictures(asks, images, names)


def mark(id: str, answer: str) -> str:
  """What stands for an answer on the sheet: it does not tell whose it is."""
  return hashlib.sha256(f'{id}\0{answer}'.encode()).hexdigest()[:16]


def read_labels(path: str | Path) -> dict[str, list[dict]]:
  """One person's file: mark -> segments (start, end, type), if done."""
  whole = files.read_json(path)
  if not isinstance(whole, dict) or whole.get('format') != FORMAT:
    found = whole.get('format') if isinstance(whole, dict) else type(whole)
    raise ValueError(f'{path}: format {found!r}, want {FORMAT!r}')
  made = {}
  for name, label in whole['labels'].items():
    for segment in label['segments']:
      if segment['type'] not in TYPES or not (
        0 <= segment['start'] < segment['end']
      ):
        raise ValueError(
          f'{path}, answer {name}: segment {segment}; want start < end and a '
          f'type of {", ".join(TYPES)}'
        )
    if label['done']:
      made[name] = label['segments']
  return made


def people_in(path: str | Path) -> list[dict[str, list[dict]]]:
  """Everybody's labels: of the folder of `annotate`, or one person's file."""
  if not Path(path).is_dir():
    return [read_labels(path)]
  return [
    {
      mark(id, answer): [
        {'start': start, 'end': end, 'type': kind} for start, end, kind in spans
      ]
      for id, answer, spans in made
    }
    for made in annotations.labelled(path).values()
  ]


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  labels: Sequence[str | Path],
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Rates of answers with a wrong segment, in all and by type; agreement.

  Where several people labelled an answer, it has what at least half of them
  marked. Answers that nobody finished are counted in `unjudged` alone.
  `agreement` is Cohen's kappa, averaged over pairs of people.
  """
  ids = [row['id'] for row in _rows(path)]
  texts = asked.texts(answers, ids, path)
  people = [person for file in labels for person in people_in(file)]
  if not people:
    raise ValueError(
      'no labels: give the files that the sheet saves, or the folder of '
      '`annotate --mode=label`'
    )
  marks = [mark(i, text) for i, text in zip(ids, texts, strict=True)]
  given = [[p[m] for p in people if m in p] for m in marks]
  known = [bool(g) for g in given]
  columns: manner.Columns = {}
  for kind in (None, *TYPES):
    has = [
      bool(g) and 2 * sum(_has(one, kind) for one in g) >= len(g) for g in given
    ]
    columns[_name('hallucination', kind)] = (has, known)
  counts = [sum(map(len, g)) / len(g) if g else 0 for g in given]
  return tally.result(
    'mhumaneval',
    ids,
    {
      **columns,
      'segments': (counts, known),
      'unjudged': ([not k for k in known], [1] * len(ids)),
      **manner.columns(texts),
    },
    settings={'people': len(people)},
    combined=_agreement(people, marks),
    found=[
      {'wrong': [(s['start'], s['end'], s['type']) for one in g for s in one]}
      for g in given
    ],
    repeats=repeats,
    seed=seed,
  )


def _name(metric: str, kind: str | None) -> str:
  return f'{metric}/{kind}' if kind else metric


def _has(segments: Sequence[Mapping[str, Any]], kind: str | None) -> bool:
  return any(kind in (None, segment['type']) for segment in segments)


def _agreement(
  people: Sequence[Mapping[str, list[dict]]], marks: Sequence[str]
) -> dict[str, dict]:
  """Kappa of each pair that shares answers; nothing where no pair does."""
  shared = [
    (one, other, both)
    for one, other in itertools.combinations(people, 2)
    if (both := [m for m in marks if m in one and m in other])
  ]
  found = {}
  for kind in (None, *TYPES) if shared else ():
    kappas = [
      kappa(*([_has(person[m], kind) for m in both] for person in pair))
      for *pair, both in shared
    ]
    found[_name('agreement', kind)] = {
      'value': sum(kappas) / len(kappas),
      'low': min(kappas),
      'high': max(kappas),
      'n': sum(len(both) for *_, both in shared),
    }
  return found


def kappa(one: Sequence[bool], other: Sequence[bool]) -> float:
  """Cohen (1960): agreement beyond chance; 1 where both say always the same."""
  n = len(one)
  same = sum(a == b for a, b in zip(one, other, strict=True)) / n
  p, q = sum(one) / n, sum(other) / n
  chance = p * q + (1 - p) * (1 - q)
  return 1.0 if chance == 1 else (same - chance) / (1 - chance)


def _rows(path: str | Path) -> list[dict]:
  def make(record: dict) -> dict:
    return {
      'id': str(record['id']),
      'question': record['question'],
      'image': record.get('image', ''),
      'file': record.get('image_file', ''),
    }

  return asked.records(path, make, what='an MHumanEval sample')
