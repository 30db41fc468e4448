"""VQAv2: the official normalisation and accuracy, and the file for EvalAI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked, manner, tally
from rlhfv_jax.benchmarks.vqa_text import line
from rlhfv_jax.benchmarks.vqa_text import normalize as normalize

SUFFIX = '\nAnswer the question using a single word or phrase.'  # LLaVA's
ENOUGH = 3  # other people with the same answer make it right


def accuracy(
  prediction: str, answers: Sequence[str], *, strict: bool = True
) -> float:
  """How right a prediction is, 0 to 1, by ten people's answers.

  min(1, others who say the same / 3), averaged over who is left out. Where all
  ten agree to the letter, the official code compares without normalising:
  strict does so, lenient always normalises.
  """
  prediction, answers = line(prediction), [line(a) for a in answers]
  if not answers:
    raise ValueError('no answers of people to compare with')
  if not strict or len(set(answers)) > 1:
    prediction = normalize(prediction)
    answers = [normalize(answer) for answer in answers]
  same = [answer == prediction for answer in answers]
  k = sum(same)
  return sum(min(1, (k - hit) / ENOUGH) for hit in same) / len(same)


def questions(
  path: str | Path,
  *,
  images: str | Path | None = None,
  suffix: str = SUFFIX,
) -> list[dict]:
  """The questions of an official file, with what asks for a short answer."""
  rows, subset = _questions(path)
  names = [[f'COCO_{subset}_{row["image"]:012d}.jpg'] for row in rows]
  asks = [{'id': r['id'], 'question': r['question'] + suffix} for r in rows]
  return asked.with_pictures(asks, images, names)


def evalai(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  out: str | Path,
  *,
  normalized: bool = True,
) -> None:
  """The file that EvalAI takes for test-dev and test-std.

  Normalised before, as everyone does: where all people agree, the server
  compares to the letter.
  """
  rows, _ = _questions(path)
  texts = asked.texts(answers, [row['id'] for row in rows], path)
  made = [
    {
      'question_id': int(row['id']),
      'answer': normalize(text) if normalized else text,
    }
    for row, text in zip(rows, texts, strict=True)
  ]
  files.write_json(out, made)


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  annotations: str | Path,
  normalized: bool = False,
  strict: bool = True,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Accuracy in all, by type of answer and, in `official`, of question.

  `normalized` normalises predictions first, as for an upload. Only questions
  whose annotations are public can be scored here: val2014, not test-dev.
  """
  rows, _ = _questions(path)
  ids = [row['id'] for row in rows]
  texts = asked.texts(answers, ids, path)
  if normalized:
    texts = [normalize(text) for text in texts]
  known = _annotations(annotations)
  if missing := [i for i in ids if i not in known]:
    raise ValueError(
      f'{annotations}: {len(missing)} of {len(ids)} questions are not in it: '
      f'{asked.some(missing)}; test-dev is scored by EvalAI, see vqa.evalai'
    )
  people = [known[i] for i in ids]
  values = [
    accuracy(text, person['answers'], strict=strict)
    for text, person in zip(texts, people, strict=True)
  ]
  by = lambda key: _groups(values, [person[key] for person in people])
  binary = [person['answer_type'] == 'yes/no' for person in people]
  yes = [
    normalize(t) == 'yes' and b for t, b in zip(texts, binary, strict=True)
  ]
  columns = {
    'accuracy': (values, [1] * len(ids)),
    **{f'accuracy/{kind}': c for kind, c in by('answer_type').items()},
    'yes': (yes, binary),
    **manner.columns(texts, short=True),
  }
  percent = lambda c: round(100 * sum(c[0]) / sum(c[1]), 2)
  return tally.result(
    'vqa',
    ids,
    columns,
    settings={'strict': strict, 'normalized': normalized},
    found=[{'accuracy': value} for value in values],
    official={
      'overall': percent(columns['accuracy']),
      'perAnswerType': {k: percent(c) for k, c in by('answer_type').items()},
      'perQuestionType': {
        k: percent(c) for k, c in by('question_type').items()
      },
    },
    repeats=repeats,
    seed=seed,
  )


def _groups(values: Sequence[float], kinds: Sequence[str]) -> manner.Columns:
  return {
    kind: (
      [v * (k == kind) for v, k in zip(values, kinds, strict=True)],
      [k == kind for k in kinds],
    )
    for kind in dict.fromkeys(kinds)
  }


def _questions(path: str | Path) -> tuple[list[dict], str]:
  """Id, question and picture number of each question, and the subset's name."""
  whole = files.read_json(path)
  try:
    rows = [
      {
        'id': str(row['question_id']),
        'question': row['question'],
        'image': int(row['image_id']),
      }
      for row in whole['questions']
    ]
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f'{path}: {error!r}; not a file of VQA questions, as '
      'v2_OpenEnded_mscoco_val2014_questions.json is'
    ) from error
  subset = whole.get('data_subtype', 'val2014')
  # test-dev2015 asks about pictures of test2015.
  return rows, 'test2015' if subset.startswith('test') else subset


def _annotations(path: str | Path) -> dict[str, dict]:
  whole = files.read_json(path)
  try:
    return {
      str(row['question_id']): {
        'answers': [answer['answer'] for answer in row['answers']],
        'answer_type': row['answer_type'],
        'question_type': row['question_type'],
      }
      for row in whole['annotations']
    }
  except (KeyError, TypeError) as error:
    raise ValueError(
      f'{path}: {error!r}; not a file of VQA annotations, as '
      'v2_mscoco_val2014_annotations.json is'
    ) from error
