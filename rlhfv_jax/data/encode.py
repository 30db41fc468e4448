"""Encoding: an example becomes a row of tokens and roles, or is rejected."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from rlhfv_jax.data import chat, images, muffin_diff, plan, segments
from rlhfv_jax.data.rows import (
  Example,
  Rejected,
  Row,
  RowError,
  Rows,
  lengths,
  pack,
  prompts,
)

DIFFS = ('exact', 'muffin')


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
  diff where it has none; with diff='muffin', what the original's diff of the
  whole rows says. Of a lone answer's conversation the earlier answers are
  scored too. `suffix` follows each answer and is not scored.
  """
  if diff not in DIFFS:
    raise ValueError(f'diff {diff!r}: one of {DIFFS}')
  stop = chat.stop_text(tokenizer, template)
  if image_token is None:
    image_token = chat.image_token_id(tokenizer)
  turns = _turns(example)
  _check(example, turns, stop, tokenizer.all_special_tokens)
  paths = [
    chat.tokenize(
      chat.render(
        turns,
        answer,
        template,
        stop=stop,
        image=bool(example.image) and image_tokens > 0,
        suffix=suffix,
      ),
      tokenizer,
      image_tokens=image_tokens,
      image_token=image_token,
    )
    for answer in example.answers or (None,)
  ]
  prompt = _shared_prompt(paths)
  answers = tuple(path.ids[len(prompt) :] for path in paths)
  _check_answers(answers, tokenizer)
  head = _common(answers)
  marks = _corrected(example, paths, template, diff)
  scored = _scored(len(example.answers), score_template)
  roles = tuple(
    np.where(scored[path.kinds], mark, 0).astype(np.int8)
    for path, mark in zip(paths, marks, strict=True)
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


def _check(example, turns, stop: str, special: Sequence[str]) -> None:
  texts = [('a turn', text) for _, text in turns]
  texts += [('an answer', text) for text in example.answers]
  for where, text in texts:
    for token in {chat.IMAGE, stop, *special}:
      if token in text:
        raise RowError('special token in the text', f'{where} holds {token!r}')
  if any(not answer.strip() for answer in example.answers):
    raise RowError('empty answer')
  if len(set(example.answers)) < len(example.answers):
    raise RowError('equal answers')
  for answer, spans in zip(example.answers, example.spans or (), strict=False):
    for start, end, *_ in spans:
      if not 0 <= start <= end <= len(answer):
        raise RowError(
          'span outside its answer',
          f'({start}, {end}) of {len(answer)} characters',
        )
  if example.spans is not None and len(example.spans) != len(example.answers):
    raise RowError(
      'spans', f'for {len(example.spans)} answers of {len(example.answers)}'
    )


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


def _check_answers(answers, tokenizer: PreTrainedTokenizerBase) -> None:
  if tokenizer.unk_token_id is not None and any(
    (answer == tokenizer.unk_token_id).any() for answer in answers
  ):
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
  gap = template.answer.index('{')
  return [
    segments.roles_from_spans(each, path.offsets - path.begin - gap)
    for each, path in zip(spans, paths, strict=True)
  ]


def encode_all(
  examples: Sequence[Example],
  tokenizer: PreTrainedTokenizerBase,
  template: chat.Template,
  *,
  image_tokens: int,
  buckets: Sequence[plan.Bucket] | None = None,
  check_images: bool = True,
  suffix: Callable[[Example], str] | str = '',
  progress: Callable[[int, int], None] | None = None,
  **options,
) -> Rows:
  """All rows of a source, the unusable ones rejected with their reason.

  With buckets, a row that fits none is rejected too: nothing is truncated.
  Every picture is decoded once, so that a broken one is found now, not in the
  middle of a run; `check_images=False` puts that off.
  """
  rows, ids, rejected = [], [], []
  for index in range(len(examples)):
    example, row = examples[index], None
    try:
      if check_images and image_tokens and example.image:
        images.decode(example.image)
      said = suffix(example) if callable(suffix) else suffix
      row = encode(
        example,
        tokenizer,
        template,
        image_tokens=image_tokens,
        suffix=said,
        **options,
      )
    except RowError as error:
      rejected.append(Rejected(index, example.id, error.reason, error.detail))
    rows.append(row)
    ids.append(example.id)
    if progress:
      progress(index + 1, len(examples))
  packed = pack(rows, ids, rejected)
  return packed if buckets is None else within(packed, buckets)


def within(rows: Rows, buckets: Sequence[plan.Bucket]) -> Rows:
  """Rows without those that fit no bucket, which are rejected."""
  long = np.flatnonzero(
    (rows.sizes[:, 0] > 0)
    & ~np.any(
      [plan.fits(lengths(rows), b, prompts=prompts(rows)) for b in buckets], 0
    )
  )
  rejected = [
    Rejected(
      int(i),
      rows.ids[i],
      'too long',
      f'{rows.sizes[i, 0]} prompt and {rows.sizes[i, 1:].tolist()} answer '
      f'tokens fit none of {[tuple(b) for b in buckets]}',
    )
    for i in long
  ]
  sizes, heads = rows.sizes.copy(), rows.heads.copy()
  sizes[long] = heads[long] = 0
  return replace(
    rows, sizes=sizes, heads=heads, rejected=rows.rejected + tuple(rejected)
  )
