"""Features: an example as a TFDS row, with nothing lost, and back."""

import io
import json
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rlhfv_jax.data.example import Example, RowError

_TEXTS = ('id', 'image_path', 'origin', 'annotator', 'model')


def features() -> tfds.features.FeaturesDict:
  """Of all our builders. Pictures stay the bytes that they came as."""
  text = tfds.features.Text()
  span = {'answer': np.int32, 'start': np.int32, 'end': np.int32}
  return tfds.features.FeaturesDict(
    {
      **dict.fromkeys(_TEXTS, text),
      'image': tfds.features.Image(),
      'turns': tfds.features.Sequence({'role': text, 'text': text}),
      'answers': tfds.features.Sequence(text),
      'has_spans': np.bool_,
      'spans': tfds.features.Sequence({**span, 'category': text}),
      'facts': tfds.features.Sequence(text),
      'extra': tfds.features.Text(doc='JSON'),
    }
  )


def to_row(example: Example) -> dict[str, Any]:
  if not example.image:
    raise RowError('no picture', f'{example.id}: every row of TFDS has one')
  return {
    **{name: getattr(example, name) for name in _TEXTS},
    'image': io.BytesIO(example.image),
    'turns': [{'role': role, 'text': text} for role, text in example.turns],
    'answers': list(example.answers),
    'has_spans': example.spans is not None,
    'spans': [
      {'answer': a, 'start': start, 'end': end, 'category': category or ''}
      for a, spans in enumerate(example.spans or ())
      for start, end, category in spans
    ],
    'facts': list(example.facts),
    'extra': json.dumps(dict(example.extra)),
  }


def from_row(row: dict[str, Any]) -> Example:
  turns = zip(texts(row['turns']['role']), texts(row['turns']['text']),
              strict=True)  # fmt: skip
  answers = texts(row['answers'])
  return Example(
    **{name: row[name].decode() for name in _TEXTS},
    image=row['image'],
    turns=tuple(turns),
    answers=answers,
    spans=_spans(row['spans'], len(answers)) if row['has_spans'] else None,
    facts=texts(row['facts']),
    extra=json.loads(row['extra']),
  )


def _spans(columns: dict[str, Any], answers: int) -> tuple:
  rows = list(
    zip(
      columns['answer'], columns['start'], columns['end'],
      texts(columns['category']), strict=True,
    )
  )  # fmt: skip
  return tuple(
    tuple((int(s), int(e), kind or None) for a, s, e, kind in rows if a == n)
    for n in range(answers)
  )


def texts(values: Any) -> tuple[str, ...]:
  return tuple(value.decode() for value in values)
