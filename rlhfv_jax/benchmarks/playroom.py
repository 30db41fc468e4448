"""The playroom's benchmark: answers held against scenes that are all known."""

from __future__ import annotations

import json
import string
from collections import Counter
from pathlib import Path

from rlhfv_jax.benchmarks.intervals import rate, ratio
from rlhfv_jax.playroom.claims import CATEGORIES, mentions, unread
from rlhfv_jax.playroom.language import ASK
from rlhfv_jax.playroom.picture import SIZE, draw, png
from rlhfv_jax.playroom.scene import USUAL, Scene, from_record
from rlhfv_jax.playroom.truth import judge, left_out


def questions(path: str | Path, *, size: int = SIZE) -> list[dict]:
  """What to ask: id, question and picture of each truth record."""
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
  that are mentioned, `coverage/claims` of all true claims that are made.
  """
  records = _records(path)
  if any(record['closed'] for record in records):
    raise ValueError(f'{path} holds closed questions; use score_questions')
  texts = _texts(answers, records, path)
  scenes = [record['scene'] for record in records]
  judged = [judge(s, t) for s, t in zip(scenes, texts, strict=True)]
  draws = {'repeats': repeats, 'seed': seed}
  metrics = {
    **_hallucination(judged, draws),
    **_coverage(scenes, texts, judged, draws),
    **_overgeneralization(scenes, texts, draws),
  }
  found = [
    {
      'id': record['id'],
      'wrong': [(c.start, c.end, c.category) for c, true in claims if not true],
      'left_out': [g.kind for g in left_out(record['scene'], text)],
      'unread': unread(text),
    }
    for record, text, claims in zip(records, texts, judged, strict=True)
  ]
  return {'metrics': metrics, 'answers': found}


def _hallucination(judged: list, draws: dict) -> dict:
  """Response and mention rates, over all claims and by category."""
  metrics = {}
  for category in (None, *CATEGORIES):
    made = [
      [true for claim, true in claims if category in (None, claim.category)]
      for claims in judged
    ]
    wrong = [verdicts.count(False) for verdicts in made]
    name = f'/{category}' if category else ''
    metrics['hallucination' + name] = rate(wrong)
    claims = list(map(len, made))
    metrics['mention' + name] = ratio(wrong, claims, **draws)
  return metrics


def _coverage(
  scenes: list[Scene], texts: list[str], judged: list, draws: dict
) -> dict:
  """What the answers tell of what is there, and in how many words."""
  groups = [len(scene.groups) for scene in scenes]
  told = [
    len(scene.groups) - len(left_out(scene, text))
    for scene, text in zip(scenes, texts, strict=True)
  ]
  true = [sum(true for _, true in claims) for claims in judged]
  all_true = [len(CATEGORIES) * n for n in groups]
  words = [len(text.split()) for text in texts]
  return {
    'coverage': ratio(told, groups, **draws),
    'coverage/claims': ratio(true, all_true, **draws),
    'length': ratio(words, [1] * len(words), **draws),
    'unread': rate([unread(text) for text in texts]),
  }


def _overgeneralization(
  scenes: list[Scene], texts: list[str], draws: dict
) -> dict:
  """How much more an absent kind is claimed in the room where it is usual.

  As RLHF-V's table 2: the rate in that room less the rate in all pictures,
  both where the kind is absent.
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
  return {
    'overgeneralization': ratio(*counts['room'], minus=counts['all'], **draws),
    'overgeneralization/room': ratio(*counts['room'], **draws),
    'overgeneralization/all': ratio(*counts['all'], **draws),
  }


def score_questions(answers: list[dict], path: str | Path) -> dict:
  """Accuracy on closed questions, over all and by form; answers word by word.

  `vqa/yes` is how often yes was answered where yes or no was asked.
  """
  records = _records(path, closed=True)
  texts = [_plain(text) for text in _texts(answers, records, path)]
  right = [
    text == record['answer']
    for text, record in zip(texts, records, strict=True)
  ]
  metrics = {'vqa': rate(right)}
  for form in ASK:
    here = [i for i, record in enumerate(records) if record['type'] == form]
    metrics[f'vqa/{form}'] = rate([right[i] for i in here])
    if form == 'yesno':
      metrics['vqa/yes'] = rate([texts[i] == 'yes' for i in here])
  found = [
    {'id': record['id'], 'right': hit}
    for record, hit in zip(records, right, strict=True)
  ]
  return {'metrics': metrics, 'answers': found}


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


def _texts(
  answers: list[dict], records: list[dict], path: str | Path
) -> list[str]:
  """The answers in the records' order: exactly one for each."""
  ids = Counter(answer['id'] for answer in answers)
  asked = {record['id'] for record in records}
  faults = {
    'missing': sorted(asked - set(ids)),
    'not asked': sorted(set(ids) - asked),
    'doubled': sorted(i for i, count in ids.items() if count > 1),
  }
  if any(faults.values()):
    told = '; '.join(
      f'{len(names)} {fault}: {", ".join(names[:8])}'
      for fault, names in faults.items()
      if names
    )
    raise ValueError(
      f'{len(answers)} answers to {len(records)} records of {path} ({told}); '
      'each record needs exactly one answer with its id'
    )
  text = {answer['id']: answer['answer'] for answer in answers}
  return [text[record['id']] for record in records]
