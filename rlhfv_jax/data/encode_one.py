"""Encoding one: an example becomes a row of tokens and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from rlhfv_jax.data import chat, muffin_diff, segments
from rlhfv_jax.data.example import (
  Example,
  RowError,
  check_letters,
  check_spans,
)
from rlhfv_jax.data.rows import Row

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase

DIFFS = ('exact', 'replaced', 'muffin')


def encode(
  example: Example,
  tokenizer: PreTrainedTokenizerBase,
  template: chat.Template,
  *,
  image_tokens: int,
  image_token: int | None = None,
  diff: str = 'exact',
  score_template: bool = False,
  suffix: str = '',
) -> Row:
  """A row whose answers are scored with their stop.

  Corrected are the tokens that meet the example's spans, or those of a word
  diff where it has none; with diff='replaced', without pure insertions and
  deletions; with 'muffin', what the original's diff of the whole rows says. Of
  a lone answer's conversation the earlier answers are scored too. `suffix`
  follows each answer and is not scored.
  """
  way = Way.of(
    tokenizer, template, image_tokens=image_tokens, image_token=image_token,
    diff=diff, score_template=score_template,
  )  # fmt: skip
  return to_row(example, to_pieces(example, way, suffix=suffix), way)


class Way(NamedTuple):
  """How examples are encoded: what is the same for all of them.

  Of the tokenizer only what needs nothing of transformers, which a process that
  encodes would take half a second to import.
  """

  words: Tokenizer
  template: chat.Template
  stop: str
  reserved: Set[str]
  begins: Sequence[int]
  unknown: int | None
  image_tokens: int
  image_token: int
  diff: str
  score_template: bool
  may_be_empty: bool  # answers of a policy are judged as they come

  @classmethod
  def of(
    cls,
    tokenizer: PreTrainedTokenizerBase,
    template: chat.Template,
    *,
    image_tokens: int,
    image_token: int | None = None,
    diff: str = 'exact',
    score_template: bool = False,
    may_be_empty: bool = False,
  ) -> Way:
    if diff not in DIFFS:
      raise ValueError(f'diff {diff!r}: one of {DIFFS}')
    if image_token is None:
      image_token = chat.image_token_id(tokenizer, template)
    return cls(
      tokenizer.backend_tokenizer, template,
      chat.stop_text(tokenizer, template),
      chat.reserved(tokenizer, template), chat.beginning(tokenizer),
      tokenizer.unk_token_id, image_tokens, image_token, diff, score_template,
      may_be_empty,
    )  # fmt: skip


Pieces = list[tuple[str, int]]


def to_pieces(example: Example, way: Way, *, suffix: str = '') -> list[Pieces]:
  """The text of each path, if it can be one."""
  turns = _turns(example)
  _check(example, turns, way)
  return [
    chat.render(
      turns,
      answer,
      way.template,
      stop=way.stop,
      image=bool(example.image) and way.image_tokens > 0,
      suffix=suffix,
    )
    for answer in example.answers or (None,)
  ]


def to_row(
  example: Example,
  pieces: Sequence[Pieces],
  way: Way,
  known: Mapping[str, chat.Chunk] | None = None,
) -> Row:
  paths = [
    chat.tokenize(
      path,
      way.words,
      image_tokens=way.image_tokens,
      image_token=way.image_token,
      begins=way.begins,
      known=known,
    )
    for path in pieces
  ]
  prompt = _shared_prompt(paths)
  answers = tuple(path.ids[len(prompt) :] for path in paths)
  _check_answers(answers, way.unknown)
  head = _common(answers)
  marks = _corrected(example, paths, way.template, way.diff)
  scored = _scored(len(example.answers), way.score_template)
  roles = tuple(
    mark * scored[path.kinds] for path, mark in zip(paths, marks, strict=True)
  )
  return Row(prompt, answers, roles, head)


def _scored(answers: int, score_template: bool) -> np.ndarray:
  """By the kind of its piece, whether a token is scored."""
  scored = np.zeros(4, bool)
  scored[chat.ANSWER] = answers > 0
  scored[chat.EARLIER] = answers == 1
  scored[chat.TAG] = answers > 0 and score_template
  return scored


def _turns(example: Example) -> tuple[tuple[str, str], ...]:
  """The turns without the picture's mark: the template says its place."""
  roles = [role for role, _ in example.turns]
  if roles != ['user', 'assistant'] * (len(roles) // 2) + ['user']:
    raise RowError(
      'turns out of order', f'{roles}: user and assistant in turn, user last'
    )
  marks = sum(text.count(chat.IMAGE) for _, text in example.turns)
  if marks > bool(example.image):
    raise RowError(
      'image placeholder',
      f'{marks} in the turns, {bool(example.image):d} picture',
    )
  if not marks:
    return example.turns
  return tuple(
    (role, text.replace(chat.IMAGE, '').strip() if role == 'user' else text)
    for role, text in example.turns
  )


def _check(example, turns, way: Way) -> None:
  texts = [('a turn', text) for _, text in turns]
  texts += [('an answer', text) for text in example.answers]
  for where, text in texts:
    for token in way.reserved:
      if token in text:
        raise RowError('special token in the text', f'{where} holds {token!r}')
  empty = any(not answer.strip() for answer in example.answers)
  if empty and not way.may_be_empty:
    raise RowError('empty answer')
  if len(set(example.answers)) < len(example.answers):
    raise RowError('equal answers')
  check_letters(example)
  check_spans(example.answers, example.spans)


def _shared_prompt(paths: Sequence[chat.Tokens]) -> np.ndarray:
  prompt = paths[0].ids[: paths[0].prompt]
  for path in paths:
    joined = (path.offsets[path.prompt :, 0] < path.begin).any()
    if joined or not np.array_equal(prompt, path.ids[: path.prompt]):
      raise RowError(
        'prompt and answer joined',
        'the tokenizer makes one token of the end of the prompt and the start '
        'of the answer: end the template differently',
      )
  return prompt


def _check_answers(answers: Sequence[np.ndarray], unknown: int | None) -> None:
  if unknown is not None and any((a == unknown).any() for a in answers):
    raise RowError('unknown word', 'an answer holds a word without a token')
  if len({answer.tobytes() for answer in answers}) < len(answers):
    raise RowError('equal answers', 'they differ in text but not in tokens')


def _common(answers: Sequence[np.ndarray]) -> int:
  """How many leading tokens all answers share."""
  shortest = min(map(len, answers))
  same = np.ones(shortest, bool)
  for answer in answers[1:]:
    same &= answer[:shortest] == answers[0][:shortest]
  return shortest if same.all() else int(np.argmin(same))


def _corrected(
  example: Example,
  paths: Sequence[chat.Tokens],
  template: chat.Template,
  diff: str,
) -> list[np.ndarray]:
  """Along each path: 1 unchanged, 2 corrected."""
  if diff == 'muffin' and len(paths) == 2:
    chosen, rejected = (path.ids.tolist() for path in paths)
    marks = muffin_diff.roles(rejected[1:], chosen[1:])[::-1]
    return [np.insert(mark, 0, 1) for mark in marks]
  spans = example.spans
  if spans is None and len(paths) == 2:
    spans = segments.spans(*example.answers)
  if spans is None:
    return [np.ones(len(path.ids), np.int8) for path in paths]
  if diff == 'replaced' and len(paths) == 2:
    spans = _replaced(spans)
  gap = template.answer.index('{')
  return [
    segments.roles_from_spans(each, path.offsets - path.begin - gap)
    for each, path in zip(spans, paths, strict=True)
  ]


def _replaced(spans: Sequence[Sequence]) -> tuple[list, list]:
  if len(spans[0]) != len(spans[1]):
    raise RowError(
      'spans that do not pair up',
      f'{len(spans[0])} in the chosen answer and {len(spans[1])} in the '
      "rejected one, so nobody knows what was inserted: take diff='exact'",
    )
  return segments.replaced(*spans)
