"""Example: a conversation about a picture, its answers, what is known of it.

The one schema that every source is read into and written from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhfv_jax.data import imagetype
from rlhfv_jax.data.templates import IMAGE as IMAGE

# Start, end and category of a corrected segment; None where nobody named one.
Span = tuple[int, int, str | None]
CATEGORIES = ('object', 'position', 'number', 'attribute', 'action', 'other')
_HALF = re.compile('[\ud800-\udfff]')


class RowError(ValueError):
  """A row that cannot be used. `reason` is the kind, `detail` the case."""

  def __init__(self, reason: str, detail: str = ''):
    super().__init__(f'{reason}: {detail}' if detail else reason)
    self.reason, self.detail = reason, detail

  def __reduce__(self):
    return RowError, (self.reason, self.detail)


@dataclass(frozen=True)
class Example:
  """A conversation about a picture that ends with the user, and its answers.

  One answer is a demonstration, two are (chosen, rejected), none asks for one.
  """

  id: str
  image: bytes | None  # encoded, as PNG or JPEG
  turns: tuple[tuple[str, str], ...]  # (role, text), 'user' or 'assistant'
  answers: tuple[str, ...] = ()
  spans: tuple[tuple[Span, ...], ...] | None = None  # corrected, per answer
  image_path: str = ''  # where its dataset keeps the picture
  origin: str = ''  # the dataset that the picture or the question came from
  annotator: str = ''  # who corrected or ranked
  model: str = ''  # that gave the rejected answer
  facts: tuple[str, ...] = ()  # true sentences, for a reward model
  # JSON-able: every column of the source that has no place of its own.
  extra: Mapping[str, Any] = field(default_factory=dict)


def to_dict(example: Example) -> dict[str, Any]:
  """What JSON could hold, but for the picture's bytes."""
  return {
    'id': example.id,
    'image': example.image,
    'turns': [list(turn) for turn in example.turns],
    'answers': list(example.answers),
    'spans': example.spans
    and [[list(span) for span in answer] for answer in example.spans],
    'image_path': example.image_path,
    'origin': example.origin,
    'annotator': example.annotator,
    'model': example.model,
    'facts': list(example.facts),
    'extra': dict(example.extra),
  }


def from_dict(row: Mapping[str, Any]) -> Example:
  spans = row.get('spans')
  return Example(
    id=str(row['id']),
    image=row.get('image'),
    turns=tuple((role, text) for role, text in row['turns']),
    answers=tuple(row.get('answers', ())),
    spans=spans
    and tuple(tuple(tuple(span) for span in answer) for answer in spans),
    image_path=row.get('image_path', ''),
    origin=row.get('origin', ''),
    annotator=row.get('annotator', ''),
    model=row.get('model', ''),
    facts=tuple(row.get('facts', ())),
    extra=dict(row.get('extra', {})),
  )


def typed(example: Example) -> Example:
  """The example, if its fields have their types; else a RowError.

  What its texts say is for the encoder and the doctor to judge.
  """
  texts = {
    'id': example.id,
    'image_path': example.image_path,
    'origin': example.origin,
    'annotator': example.annotator,
    'model': example.model,
  }
  texts |= {f'turn {i}': text for i, (_, text) in enumerate(example.turns)}
  texts |= {f'answer {i}': text for i, text in enumerate(example.answers)}
  texts |= {f'fact {i}': text for i, text in enumerate(example.facts)}
  for name, text in texts.items():
    if not isinstance(text, str):
      raise RowError('wrong type', f'{name} is {_kind(text)}, not text')
  if not isinstance(example.image, bytes | None):
    raise RowError('wrong type', f'image is {_kind(example.image)}, not bytes')
  for answer in example.spans or ():
    for start, end, *rest in answer:
      numbers = type(start) is type(end) is int
      if not numbers or len(rest) != 1 or not isinstance(rest[0], str | None):
        raise RowError('wrong type', f'span {(start, end, *rest)}')
  return example


def validate(example: Example) -> Example:
  """The example, if it can be handed on as it is; else a RowError."""
  typed(example)
  if example.image is not None and not imagetype.of(example.image):
    raise RowError(
      'undecodable picture', f'{len(example.image)} bytes of no known format'
    )
  for i, answer in enumerate(example.answers):
    if IMAGE in answer:
      raise RowError('image placeholder', f'answer {i} holds {IMAGE!r}')
  check_letters(example)
  check_spans(example.answers, example.spans)
  return example


def check_letters(example: Example) -> None:
  """JSON can hold half of a character, which no tokenizer reads."""
  for text in (*example.answers, *(text for _, text in example.turns)):
    if _HALF.search(text):
      raise RowError('half a character', f'in {text[:40]!r}')


def check_spans(
  answers: Sequence[str], spans: Sequence[Sequence[Span]] | None
) -> None:
  """Inside their answer and apart from one another, in whatever order."""
  if spans is None:
    return
  if len(spans) != len(answers):
    raise RowError('spans', f'for {len(spans)} answers of {len(answers)}')
  for answer, marked in zip(answers, spans, strict=True):
    last = (0, 0)
    for start, end, *_ in sorted(marked, key=lambda span: tuple(span[:2])):
      if not 0 <= start <= end <= len(answer):
        raise RowError(
          'span outside its answer',
          f'({start}, {end}) of {len(answer)} characters',
        )
      if start < last[1]:
        raise RowError('overlapping spans', f'{last} and ({start}, {end})')
      last = (start, end)


def _kind(value: Any) -> str:
  return 'missing' if value is None else f'of type {type(value).__name__}'
