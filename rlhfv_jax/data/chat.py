"""Chat: the strings around a conversation, and its tokens with offsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
  AutoTokenizer,
  PreTrainedTokenizerBase,
  PreTrainedTokenizerFast,
)

IMAGE = '<image>'
# What a piece of a conversation is: nothing that is ever scored, a tag that
# some recipes score, an answer of an earlier turn, the last answer.
CONTEXT, TAG, EARLIER, ANSWER = range(4)
_PUNCTUATION = '.,:;?!'


@dataclass(frozen=True)
class Template:
  """The strings that a model was trained with. An answer ends with `stop`."""

  user: str  # around {image} and {text}
  assistant: str
  answer: str = ' {text}'
  system: str = ''
  opening: str = ''  # stands once, before the first turn; a tag
  image: str = f'{IMAGE}\n'
  stop: str | None = None  # None: the tokenizer's end-of-sequence token


_CHAT = (
  'A chat between a curious {who} and an artificial intelligence assistant. '
  "The assistant gives helpful, detailed, and polite answers to the {who}'s "
  'questions.'
)

TEMPLATES = {
  'playroom': Template(
    user='{image}user: {text} ', assistant='assistant:', image=f'{IMAGE} '
  ),
  # LLaVA's training template, and the one that its evaluations use.
  'vicuna_v1': Template(
    system=_CHAT.format(who='user') + ' ',
    user='USER: {image}{text} ',
    assistant='ASSISTANT:',
  ),
  'llava_v1': Template(
    system=_CHAT.format(who='human') + ' ',
    user='USER: {image}{text} ',
    assistant='ASSISTANT:',
  ),
  # RLHF-V's training template; its tags and stops are scored.
  'muffin': Template(
    system=_CHAT.format(who='human') + '\n\n',
    opening='### ',
    user='Human: {image}{text}\n',
    assistant='### Assistant:',
    image=f'<im_start>{IMAGE}<im_end>\n',
    stop='\n### ',  # ends an answer and opens the next turn
  ),
}


def template(name: str) -> Template:
  if name not in TEMPLATES:
    raise ValueError(f'chat template {name!r}: one of {sorted(TEMPLATES)}')
  return TEMPLATES[name]


class Tokens(NamedTuple):
  """A tokenised conversation. Offsets are characters of `text`."""

  ids: np.ndarray  # i32[n]
  offsets: np.ndarray  # i32[n,2]
  kinds: np.ndarray  # i8[n]
  prompt: int  # tokens before the answer
  begin: int  # character that the answer begins at, with the space before it
  text: str


def render(
  turns: Sequence[tuple[str, str]],
  answer: str | None,
  template: Template,
  *,
  stop: str,
  image: bool,
  suffix: str = '',
) -> list[tuple[str, int]]:
  """The pieces (text, kind) of a conversation; without an answer, its prompt.

  The picture stands in the first user turn; `suffix` follows the last answer,
  as what asks a reward model for its judgement does.
  """
  picture = template.image if image else ''
  pieces = [(template.system, CONTEXT), (template.opening, TAG)]
  for role, text in turns:
    if role == 'user':
      said = template.user.format(image=picture, text=text)
      pieces += [(said, CONTEXT), (template.assistant, TAG)]
      picture = ''
    else:
      said = template.answer.format(text=text)
      pieces += [(said, EARLIER), (stop, EARLIER)]
  if answer is not None:
    said = template.answer.format(text=answer)
    pieces += [(said, ANSWER), (stop, ANSWER), (suffix, CONTEXT)]
  return [(text, kind) for text, kind in pieces if text]


def stop_text(tokenizer: PreTrainedTokenizerBase, template: Template) -> str:
  """What ends an answer."""
  stop = template.stop or tokenizer.eos_token
  if not stop:
    raise ValueError(
      'the tokenizer has no eos_token and the template no stop: give one'
    )
  return stop


def image_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
  """The id of the picture's placeholder, past the vocabulary if it has none."""
  known = tokenizer.convert_tokens_to_ids(IMAGE)
  return len(tokenizer) if known in (None, tokenizer.unk_token_id) else known


def tokenize(
  pieces: Sequence[tuple[str, int]],
  tokenizer: PreTrainedTokenizerBase,
  *,
  image_tokens: int,
  image_token: int,
) -> Tokens:
  """Pieces -> tokens. Each picture becomes `image_tokens` placeholders.

  The conversation is tokenised as a whole but for the cut at the picture, so
  that an answer's first word has the token it has in running text. Which piece
  a token belongs to is read off its characters.
  """
  text = ''.join(piece for piece, _ in pieces)
  ends = np.cumsum([len(piece) for piece, _ in pieces])
  kinds = np.array([kind for _, kind in pieces], np.int8)
  ids, offsets = [], []
  if tokenizer.bos_token_id is not None:
    ids, offsets = [tokenizer.bos_token_id], [(0, 0)]
  at = 0
  for part, chunk in enumerate(text.split(IMAGE)):
    if part:
      ids += [image_token] * image_tokens
      offsets += [(at, at + len(IMAGE))] * image_tokens
      at += len(IMAGE)
    found = tokenizer(
      chunk, add_special_tokens=False, return_offsets_mapping=True
    )
    ids += found['input_ids']
    offsets += [(at + s, at + e) for s, e in found['offset_mapping']]
    at += len(chunk)
  offsets = np.array(offsets, np.int32)
  last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
  piece = np.minimum(np.searchsorted(ends, last, side='right'), len(ends) - 1)
  first = np.flatnonzero(kinds == ANSWER)
  begin = int(ends[first[0] - 1]) if len(first) else len(text)
  return Tokens(
    ids=np.array(ids, np.int32),
    offsets=offsets,
    kinds=kinds[piece],
    prompt=int((last < begin).sum()),
    begin=begin,
    text=text,
  )


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
  """A token for each word and each mark, for a small language known whole.

  <pad> is 0. Decoding puts one space between words and none before a mark, so
  text written that way comes back to the character.
  """
  words = list(dict.fromkeys(['user', 'assistant', *_PUNCTUATION, *words]))
  special = ['<pad>', '<bos>', '<end>', IMAGE, '<unk>']
  vocabulary = {word: i for i, word in enumerate(special + words)}
  backend = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
  backend.pre_tokenizer = pre_tokenizers.Split(
    Regex(r"\w+(?:[-']\w+)*|[^\w\s]"), 'removed', invert=True
  )
  for word in words:
    if backend.pre_tokenizer.pre_tokenize_str(word) != [(word, (0, len(word)))]:
      raise ValueError(f'{word!r} is not one word or one mark: split it')
  backend.decoder = decoders.Sequence(
    [
      decoders.WordPiece(prefix='##', cleanup=False),
      decoders.Fuse(),
      *[decoders.Replace(f' {mark}', mark) for mark in _PUNCTUATION],
    ]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=backend,
    pad_token='<pad>',
    bos_token='<bos>',
    eos_token='<end>',
    unk_token='<unk>',
    extra_special_tokens=[IMAGE],
    clean_up_tokenization_spaces=False,
  )


def save(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
  tokenizer.save_pretrained(str(path))


def load(path: str | Path) -> PreTrainedTokenizerBase:
  """A tokenizer in Hugging Face files; one that tells characters of tokens."""
  tokenizer = AutoTokenizer.from_pretrained(str(path))
  if not tokenizer.is_fast:
    raise ValueError(
      f'{path}: this tokenizer gives no character offsets, which the roles of '
      'tokens are read from: convert it to a tokenizer.json'
    )
  return tokenizer


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
  """The text of tokens up to the first end, without special ones."""
  ids = np.asarray(ids)
  ends = np.flatnonzero(ids == tokenizer.eos_token_id)
  ids = ids[: ends[0]] if len(ends) else ids
  inside = ids[(ids >= 0) & (ids < len(tokenizer))].tolist()
  return tokenizer.decode(inside, skip_special_tokens=True).strip()
