"""Pairs: what formats of one question and two answers have in common."""

import json
from typing import Any

from rlhfv_jax.data.example import IMAGE, Example, RowError


def question(example: Example) -> str:
  """The only thing that was asked, without the picture's mark."""
  if len(example.turns) != 1:
    raise RowError(
      'several turns', f'{len(example.turns)}: the format has one question'
    )
  return unmarked(example.turns[0][1])


def answers(example: Example) -> tuple[str, str]:
  if len(example.answers) != 2:
    raise RowError(
      'not a pair', f'{len(example.answers)} answers: the format has two'
    )
  return example.answers


def picture(example: Example) -> bytes:
  if example.image is None:
    raise RowError('no picture', 'the format has one in every row')
  return example.image


def unmarked(text: str) -> str:
  return text.replace(IMAGE, '').strip() if IMAGE in text else text


def embedded(value: Any) -> bytes | None:
  """The bytes of {bytes, path}, as Hugging Face's datasets has pictures."""
  if value is None or isinstance(value, bytes):
    return value
  if not isinstance(value, dict):
    raise RowError('wrong type', f'image is a {type(value).__name__}')
  if value.get('bytes') is None and value.get('path'):
    raise RowError(
      'no such picture', f'{value["path"]!r}: a name, and no bytes of it'
    )
  return value.get('bytes')


def load(text: Any, what: str) -> Any:
  """JSON in a column."""
  if not isinstance(text, str):
    raise RowError('wrong type', f'{what} is {_kind(text)}, not JSON text')
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise RowError('not JSON', f'{what}: {error}') from error


def entry(told: Any, key: str, what: str) -> Any:
  """A value of a JSON object."""
  if not isinstance(told, dict):
    raise RowError('wrong type', f'{what} is {_kind(told)}, not an object')
  if told.get(key) is None:
    raise RowError('missing key', f'{key} of {what}, which has {sorted(told)}')
  return told[key]


def model_of(origin_split: Any) -> str:
  """Which model gave the rejected answer, where the dataset says it."""
  try:
    told = json.loads(origin_split)
    return told['model'] if isinstance(told['model'], str) else ''
  except (KeyError, TypeError, ValueError):
    return ''


def origin_split(example: Example) -> str:
  told = example.extra.get('origin_split')
  return told if isinstance(told, str) else _split(example.model)


def origin(row: dict) -> dict[str, Any]:
  """What `origin_split` and `ds_name` say beyond the model."""
  told = {
    'ds_name': row.get('ds_name'),
    'origin_split': row.get('origin_split'),
  }
  usual = ('', _split(model_of(told['origin_split'])))
  return {key: v for key, v in told.items() if v is not None and v not in usual}


def _split(model: str) -> str:
  return json.dumps({'model': model} if model else {})


def logps(example: Example) -> Any:
  """Cached log-probs: sum, mean and list, of the chosen and the rejected."""
  told = example.extra.get('logps')
  return json.loads(told) if isinstance(told, str) else told


def number(id: str, index: int) -> int:
  """The id where it is a number that a column of them holds, or the row's."""
  decimal = id.isascii() and id.isdecimal() and len(id) < 19
  return int(id) if decimal else index


def _kind(value: Any) -> str:
  return 'missing' if value is None else f'of type {type(value).__name__}'
