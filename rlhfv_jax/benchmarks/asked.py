"""What was asked and what was answered: official files read, answers matched.

A question is a dict with `id`, `question` and, where it has a picture, either
`image` (its bytes) or `image_path`. An answer is a dict with `id` and `answer`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Made = TypeVar('Made')


def records(
  path: str | Path, make: Callable[[dict], Made], *, what: str = 'this file'
) -> list[Made]:
  """Every record of a JSON list or a JSON-lines file, as `make` reads it."""
  made = []
  for row, record in enumerate(_rows(Path(path)), 1):
    try:
      made.append(make(record))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f'{path}, record {row}: {error!r}; it is not a record of {what}'
      ) from error
  if not made:
    raise ValueError(f'{path}: no record in it; {what} was expected')
  return made


def _rows(path: Path) -> list[Any]:
  text = path.read_text('utf-8-sig')
  if text.lstrip().startswith('['):
    try:
      return json.loads(text)
    except json.JSONDecodeError as error:
      raise ValueError(f'{path}: not JSON ({error})') from error
  rows = []
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
  return rows


def texts(
  answers: Iterable[Mapping[str, Any]], ids: Sequence[str], path: str | Path
) -> list[str]:
  """The answers in the order of the questions' ids: exactly one for each."""
  answers = list(answers)
  for row, answer in enumerate(answers, 1):
    if not isinstance(answer.get('id'), str) or not isinstance(
      answer.get('answer'), str
    ):
      raise ValueError(
        f"answer {row} is {str(answer)[:80]}: want 'id' and 'answer', two texts"
      )
  counts = Counter(answer['id'] for answer in answers)
  faults = {
    'missing': sorted(set(ids) - set(counts)),
    'not asked': sorted(set(counts) - set(ids)),
    'doubled': sorted(i for i, count in counts.items() if count > 1),
  }
  if any(faults.values()):
    told = '; '.join(
      f'{len(names)} {fault}: {some(names)}'
      for fault, names in faults.items()
      if names
    )
    raise ValueError(
      f'{len(answers)} answers to {len(ids)} records of {path} ({told}); '
      'each record needs exactly one answer with its id'
    )
  text = {answer['id']: answer['answer'] for answer in answers}
  return [text[i] for i in ids]


def read_answers(path: str | Path) -> list[dict[str, str]]:
  """Answers from our files or from those of the original codes, by row."""

  def make(record: dict) -> dict[str, str]:
    name = first(record, 'id', 'question_id', 'image_id')
    text = first(record, 'answer', 'text', 'response', 'caption')
    if not isinstance(text, str):
      raise TypeError(f'the answer is {text!r}, no text')
    return {'id': str(name), 'answer': text}

  return records(path, make, what='an answers file')


def first(record: Mapping[str, Any], *keys: str) -> Any:
  """The first of these keys that the record has."""
  for key in keys:
    if record.get(key) is not None:
      return record[key]
  raise KeyError(' or '.join(keys))


def unique(names: Iterable[Any]) -> list[str]:
  """Ids from names that may come twice: the second becomes 'name#2'."""
  seen: Counter[str] = Counter()
  ids = []
  for name in map(str, names):
    seen[name] += 1
    ids.append(name if seen[name] == 1 else f'{name}#{seen[name]}')
  return ids


def pictures(
  folder: str | Path, names: Sequence[Sequence[str]]
) -> list[str | None]:
  """Where each question's picture lies, under the first name that is there.

  A question without names has no picture. Missing ones are an error that says
  how many and which.
  """
  folder, found, missing = Path(folder), [], []
  for options in names:
    paths = [folder / name for name in options if (folder / name).is_file()]
    if options and not paths:
      missing.append(options[0])
    found.append(str(paths[0]) if paths else None)
  if missing:
    raise ValueError(
      f'{folder}: {len(missing)} of {len(names)} pictures are missing: '
      f'{some(missing)}'
    )
  return found


def with_pictures(
  questions: list[dict],
  folder: str | Path | None,
  names: Sequence[Sequence[str]],
) -> list[dict]:
  """Questions with `image_path`, if a folder of pictures is given."""
  if folder is None:
    return questions
  return [
    {**question, 'image_path': path} if path else question
    for question, path in zip(questions, pictures(folder, names), strict=True)
  ]


def some(names: Sequence[str], *, most: int = 8) -> str:
  """A few names, and how many more there are."""
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
