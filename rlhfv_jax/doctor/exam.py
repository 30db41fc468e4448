"""The exam of one row: what is wrong with its texts, and how long they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlhfv_jax.data import segments
from rlhfv_jax.data.example import (
  CATEGORIES,
  Example,
  RowError,
  check_spans,
)
from rlhfv_jax.data.rows import Row
from rlhfv_jax.data.templates import IMAGE

REWRITE = 0.6
KNOWN = frozenset((*CATEGORIES, '', None))
Fault = tuple[str, str]  # kind, detail
Spans = tuple[Sequence, Sequence]

_WORD = re.compile(r'\w+|[^\w\s]')
# Image tokens, special tokens and role tags of the models in use.
_MARKUP = re.compile(
  r'<im_(?:patch|start|end)>|<image[_-]?\d*>|<ImageHere>|\[/?IMG\]|</?img>|'
  r'<\|[\w-]+\|>|</?s>|\[/?INST\]|### ?(?:Human|Assistant)|'
  r'\b(?:USER|ASSISTANT|Human|Assistant): ',
)
_BROKEN = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]')
_HALF = re.compile('[\ud800-\udfff]')


class Measure(NamedTuple):
  """A row in tokens, or in words where no tokenizer is given."""

  prompt: int
  answers: tuple[int, ...]
  corrected: tuple[int, ...]  # of each answer
  head: int  # leading ones that all answers share


def faults(example: Example, found: Spans | None) -> list[Fault]:
  """All that the texts of a row show to be wrong, whatever the tokenizer.

  `found` are its `corrections`.
  """
  exams = (_turns, _answers, _marks)
  alone = [fault for examine in exams for fault in examine(example)]
  return [*alone, *_spans(example, found)]


def corrections(example: Example) -> Spans | None:
  """A pair's spans: its own, or a word diff's; None where there is no pair."""
  if len(example.answers) != 2:
    return None
  if example.spans is not None and len(example.spans) == 2:
    return example.spans
  return segments.spans(*example.answers)


def _changed(example: Example, spans: Spans) -> float:
  """The share of characters in spans, of the answer that changed more."""
  return max(
    sum(end - start for start, end, *_ in its) / max(len(text), 1)
    for text, its in zip(example.answers, spans, strict=True)
  )


def in_tokens(row: Row) -> Measure:
  return Measure(
    len(row.prompt),
    tuple(map(len, row.answers)),
    tuple(int((roles == 2).sum()) for roles in row.roles),
    row.head,
  )


def in_words(example: Example, spans: Spans | None) -> Measure:
  said = [list(_WORD.finditer(answer)) for answer in example.answers]
  head = 0
  for words in zip(*said, strict=False):
    if len({word[0] for word in words}) > 1:
      break
    head += 1
  corrected = (0,) * len(said)
  if spans is not None:
    offsets = [[word.span() for word in words] for words in said]
    roles = map(segments.roles_from_spans, spans, offsets)
    corrected = tuple(int((each == 2).sum()) for each in roles)
  asked = sum(len(_WORD.findall(text)) for _, text in example.turns)
  return Measure(asked, tuple(map(len, said)), corrected, head)


def _turns(example: Example) -> Iterator[Fault]:
  roles = [role for role, _ in example.turns]
  if roles != ['user', 'assistant'] * (len(roles) // 2) + ['user']:
    yield 'turns out of order', f'{roles}: user and assistant, user last'
  for number, (_, text) in enumerate(example.turns):
    if not text.replace(IMAGE, '').strip():
      yield 'empty question', f'turn {number} says nothing'
  marks = sum(text.count(IMAGE) for _, text in example.turns)
  if marks > bool(example.image):
    yield (
      'image placeholder',
      f'{marks} in the turns, {bool(example.image):d} picture',
    )


def _answers(example: Example) -> Iterator[Fault]:
  answers = example.answers
  if not answers:
    yield 'no answer', 'a question alone'
  for number, answer in enumerate(answers):
    if not answer.strip():
      yield 'empty answer', f'answer {number} says nothing'
    if IMAGE in answer:
      yield 'image placeholder', f'answer {number} holds {IMAGE!r}'
  if len(set(answers)) < len(answers):
    yield 'equal answers', f'{answers[0][:80]!r}'
  elif len({_bare(answer) for answer in answers}) < len(answers):
    yield 'difference of no word', 'case, spaces or marks differ, no word does'


def _bare(text: str) -> str:
  return ' '.join(re.findall(r'\w+', text.casefold()))


def _marks(example: Example) -> Iterator[Fault]:
  said = [('a turn', text) for _, text in example.turns]
  said += [('an answer', text) for text in example.answers]
  for where, text in said:
    if found := _MARKUP.search(text.replace(IMAGE, '')):
      yield 'markup in the text', f'{where} holds {found[0]!r}'
    if found := _BROKEN.search(text):
      yield 'broken characters', f'{where} holds {found[0]!r}'
    if found := _HALF.search(text):
      yield 'half a character', f'{where} holds {found[0]!r}'


def _spans(example: Example, found: Spans | None) -> Iterator[Fault]:
  spans, answers = example.spans, example.answers
  try:
    check_spans(answers, spans)
  except RowError as error:
    yield error.reason, error.detail
    return
  named = {category for its in spans or () for *_, category in its}
  for category in named - KNOWN:
    yield 'unknown category', f'{category!r}'
  if found is None or len({*map(str.strip, answers)} - {''}) < 2:
    return
  if not any(end > start for its in found for start, end, *_ in its):
    yield 'nothing marked', 'the answers differ and no span says where'
  elif len({*map(_outside, answers, found)}) > 1:
    yield 'difference outside the spans', 'without them the answers differ'
  if (share := _changed(example, found)) > REWRITE:
    yield 'rewrite', f'{100 * share:.0f} % of the answer changed'


def _outside(text: str, spans: Sequence) -> str:
  """What no span covers, but for white space, on which diffs may disagree."""
  at, parts = 0, []
  for start, end in sorted(tuple(span[:2]) for span in spans):
    parts.append(text[at:start])
    at = end
  return ''.join(''.join([*parts, text[at:]]).split())
