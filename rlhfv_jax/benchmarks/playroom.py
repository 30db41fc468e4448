"""The playroom's benchmark: answers held against scenes that are all known."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, tally
from rlhfv_jax.benchmarks.composed import Composed
from rlhfv_jax.benchmarks.intervals import mean, ratio
from rlhfv_jax.playroom.claims import CATEGORIES, mentions, unread
from rlhfv_jax.playroom.language import ASK
from rlhfv_jax.playroom.picture import SIZE, draw, png
from rlhfv_jax.playroom.scene import USUAL, Scene, from_record
from rlhfv_jax.playroom.truth import judge, left_out

# The files of a run: descriptions, the same in rooms as training never showed
# them, and closed questions.
TASKS = ('describe', 'unseen', 'ask')


def questions(path: str | Path, *, size: int = SIZE) -> list[dict]:
  """What to ask: id, question and picture of each truth record.

  A folder has the three files of TASKS, and its questions are all of theirs.
  """
  if Path(path).is_dir():
    return [q for task in TASKS for q in questions(_file(path, task))]
  return [
    {
      'id': record['id'],
      'question': record['question'],
      'image': png(draw(record['scene'], size)),
    }
    for record in _records(path)
  ]


def score(
  answers: list[dict],
  path: str | Path,
  *,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Metrics of descriptions, and what is wrong with each of them.

  `hallucination` is the share of answers with an unsupported claim, `mention`
  the share of claims that are unsupported; what is said about a kind that is
  not there counts as one claim. `coverage` is the share of the kinds there
  that are mentioned, `coverage/claims` of all true claims that are made. Of a
  folder all three files are scored.
  """
  draws = {'repeats': repeats, 'seed': seed}
  if Path(path).is_dir():
    return _score_all(answers, Path(path), draws)
  records = _records(path)
  if any(record['closed'] for record in records):
    raise ValueError(f'{path} holds closed questions; use score_questions')
  ids = [record['id'] for record in records]
  texts = asked.texts(answers, ids, path)
  scenes = [record['scene'] for record in records]
  judged = [judge(s, t) for s, t in zip(scenes, texts, strict=True)]
  usual = _overgeneralization(scenes, texts)
  gap = ratio(*usual['room'], minus=usual['all'], **draws)
  found = [
    {
      'wrong': [(c.start, c.end, c.category) for c, true in claims if not true],
      'left_out': [g.kind for g in left_out(record['scene'], text)],
      'unread': unread(text),
    }
    for record, text, claims in zip(records, texts, judged, strict=True)
  ]
  result = tally.result(
    'playroom',
    ids,
    {
      **_hallucination(judged),
      **_coverage(scenes, texts, judged),
      **{f'overgeneralization/{where}': c for where, c in usual.items()},
    },
    settings={},
    found=found,
    combined={'overgeneralization': gap},
    **draws,
  )
  # The parts behind the whole.
  for where in usual:
    name = f'overgeneralization/{where}'
    result['metrics'][name] = result['metrics'].pop(name)
  return result


def composed(settings: Mapping[str, Any]) -> dict[str, Composed]:
  """What a room's habits add to what is claimed of absent things anywhere."""
  parts = tuple(f'overgeneralization/{where}' for where in ('room', 'all'))
  apart = lambda sums: mean(sums[:, :2]) - mean(sums[:, 2:])
  return {'overgeneralization': Composed(parts, apart)}


def _hallucination(judged: list) -> tally.Columns:
  """Response and mention rates, over all claims and by category."""
  columns = {}
  for category in (None, *CATEGORIES):
    made = [
      [true for claim, true in claims if category in (None, claim.category)]
      for claims in judged
    ]
    wrong = [verdicts.count(False) for verdicts in made]
    name = f'/{category}' if category else ''
    columns['hallucination' + name] = [w > 0 for w in wrong], [1] * len(wrong)
    columns['mention' + name] = wrong, list(map(len, made))
  return columns


def _coverage(
  scenes: list[Scene], texts: list[str], judged: list
) -> tally.Columns:
  """What the answers tell of what is there, and in how many words."""
  groups = [len(scene.groups) for scene in scenes]
  told = [
    len(scene.groups) - len(left_out(scene, text))
    for scene, text in zip(scenes, texts, strict=True)
  ]
  true = [sum(true for _, true in claims) for claims in judged]
  ones = [1] * len(texts)
  return {
    'coverage': (told, groups),
    'coverage/claims': (true, [len(CATEGORIES) * n for n in groups]),
    'length': ([len(text.split()) for text in texts], ones),
    'unread': ([bool(unread(text)) for text in texts], ones),
  }


def _overgeneralization(scenes: list[Scene], texts: list[str]) -> tally.Columns:
  """How often an absent kind is claimed in the room where it is usual, or all.

  As RLHF-V's table 2, which has the difference of the two rates, both where the
  kind is absent.
  """
  counts = {'room': ([], []), 'all': ([], [])}
  for scene, text in zip(scenes, texts, strict=True):
    told = {mention.kind for mention in mentions(text)}
    usual = {room: set(kinds) for room, kinds in USUAL.items()}
    asked = {'room': usual[scene.room], 'all': set().union(*usual.values())}
    for where, kinds in asked.items():
      absent = kinds - set(scene.by_kind)
      claimed, possible = counts[where]
      claimed.append(len(absent & told))
      possible.append(len(absent))
  return counts


def score_questions(
  answers: list[dict], path: str | Path, **draws: int
) -> dict:
  """Accuracy on closed questions, over all and by form; answers word by word.

  `vqa/yes` is how often yes was answered where yes or no was asked.
  """
  records = _records(path, closed=True)
  ids = [record['id'] for record in records]
  texts = [_plain(text) for text in asked.texts(answers, ids, path)]
  right = [
    text == record['answer']
    for text, record in zip(texts, records, strict=True)
  ]
  columns = {'vqa': (right, [1] * len(ids))}
  for form in ASK:
    here = [record['type'] == form for record in records]
    columns[f'vqa/{form}'] = _among(here, right)
    if form == 'yesno':
      columns['vqa/yes'] = _among(here, [text == 'yes' for text in texts])
  return tally.result(
    'playroom',
    ids,
    columns,
    settings={},
    found=[{'right': hit} for hit in right],
    **draws,
  )


def _among(here: list[bool], hits: list[bool]) -> tuple[list, list]:
  return [h and hit for h, hit in zip(here, hits, strict=True)], here


def _score_all(answers: list[dict], folder: Path, draws: dict) -> dict:
  """The three files of a run as one result; of unseen rooms: unseen/..."""
  whole: dict = {}
  left = {answer['id'] for answer in answers}
  for task in TASKS:
    path = _file(folder, task)
    ids = {record['id'] for record in _records(path, closed=task == 'ask')}
    here = [answer for answer in answers if answer['id'] in ids]
    left -= ids
    of = score_questions if task == 'ask' else score
    part = of(here, path, **draws)
    prefix = 'unseen/' if task == 'unseen' else ''
    whole = whole or {**part, 'metrics': {}, 'answers': [], 'warnings': []}
    whole['metrics'] |= {prefix + k: m for k, m in part['metrics'].items()}
    whole['warnings'] += [f'{task}: {w}' for w in part['warnings']]
    whole['answers'] += [
      {**a, 'counts': {prefix + k: c for k, c in a['counts'].items()}}
      for a in part['answers']
    ]
  if left:
    raise ValueError(
      f'{folder}: {len(left)} answers to questions that are not asked: '
      f'{asked.some(sorted(left))}'
    )
  return whole


def _file(folder: str | Path, task: str) -> Path:
  return Path(folder) / f'{task}.jsonl'


def _plain(text: str) -> str:
  return ' '.join(text.lower().split()).strip(string.punctuation + ' ')


def _records(path: str | Path, *, closed: bool = False) -> list[dict]:
  """The truth records of a file, each with its scene."""
  records = []
  lines = Path(path).read_text('utf-8').splitlines()
  for row, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      keys = ('id', 'question') + (('answer', 'type') if closed else ())
      kept = {key: record[key] for key in keys}
      kept |= {'scene': from_record(record), 'closed': 'type' in record}
      records.append(kept)
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f'{path}, row {row}: {error!r}; playroom.dataset.describe_records and '
        'question_records write what can be read here'
      ) from error
  return records
