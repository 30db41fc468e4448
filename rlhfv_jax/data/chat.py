"""Chat: a conversation becomes tokens that know their characters.

The front door of the three files beside it: `templates`, `tokenizer`, and
`sentencepiece` behind that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from rlhfv_jax.data.templates import ANSWER as ANSWER
from rlhfv_jax.data.templates import CONTEXT as CONTEXT
from rlhfv_jax.data.templates import EARLIER as EARLIER
from rlhfv_jax.data.templates import IMAGE as IMAGE
from rlhfv_jax.data.templates import TAG as TAG
from rlhfv_jax.data.templates import TEMPLATES as TEMPLATES
from rlhfv_jax.data.templates import Template as Template
from rlhfv_jax.data.templates import ends as ends
from rlhfv_jax.data.templates import render as render
from rlhfv_jax.data.templates import template as template
from rlhfv_jax.data.tokenizer import Stops as Stops
from rlhfv_jax.data.tokenizer import decode as decode
from rlhfv_jax.data.tokenizer import fit as fit
from rlhfv_jax.data.tokenizer import image_token_id as image_token_id
from rlhfv_jax.data.tokenizer import load as load
from rlhfv_jax.data.tokenizer import reserved as reserved
from rlhfv_jax.data.tokenizer import save as save
from rlhfv_jax.data.tokenizer import stop_text as stop_text
from rlhfv_jax.data.tokenizer import stops as stops
from rlhfv_jax.data.tokenizer import word_tokenizer as word_tokenizer

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase

Chunk = tuple[np.ndarray, np.ndarray]  # ids i32[n], offsets i32[n,2]


class Tokens(NamedTuple):
  """A tokenised conversation. Offsets are characters of `text`."""

  ids: np.ndarray  # i32[n]
  offsets: np.ndarray  # i32[n,2]
  kinds: np.ndarray  # i8[n]
  prompt: int  # tokens before the answer
  begin: int  # character that the answer begins at, with the space before it
  text: str


def cut(pieces: Sequence[tuple[str, int]]) -> list[str]:
  """What is tokenised at a time: the text between pictures."""
  return ''.join(piece for piece, _ in pieces).split(IMAGE)


def chunks(texts: Iterable[str], words: Tokenizer) -> dict[str, Chunk]:
  """Ids and offsets of each text; many at once cost half as much."""
  texts = list(dict.fromkeys(texts))
  if not texts:
    return {}
  words.no_truncation()
  words.no_padding()
  found = words.encode_batch(texts, add_special_tokens=False)
  return {
    text: (np.array(one.ids, np.int32), _offsets(one.offsets))
    for text, one in zip(texts, found, strict=True)
  }


def _offsets(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
  flat = chain.from_iterable(pairs)
  return np.fromiter(flat, np.int32, 2 * len(pairs)).reshape(-1, 2)


def beginning(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
  """The token that each conversation begins with, if there is one."""
  bos = tokenizer.bos_token_id
  return () if bos is None else (bos,)


def tokenize(
  pieces: Sequence[tuple[str, int]],
  words: Tokenizer,
  *,
  image_tokens: int,
  image_token: int,
  begins: Sequence[int],
  known: Mapping[str, Chunk] | None = None,
) -> Tokens:
  """Pieces -> tokens. Each picture becomes `image_tokens` placeholders.

  The conversation is tokenised as a whole but for the cut at the picture, so
  that an answer's first word has the token it has in running text. Which piece
  a token belongs to is read off its characters. `begins` is what `beginning`
  says of the tokenizer; `known` are chunks tokenised before.
  """
  text = ''.join(piece for piece, _ in pieces)
  ends = list(accumulate(len(piece) for piece, _ in pieces))
  ids = [np.array(begins, np.int32)]
  offsets = [np.zeros((len(begins), 2), np.int32)]
  at, parts = 0, text.split(IMAGE)
  known = known or chunks(parts, words)
  for part, chunk in enumerate(parts):
    if part:
      ids.append(np.full(image_tokens, image_token, np.int32))
      mark = at, at + len(IMAGE)
      offsets.append(np.full((image_tokens, 2), mark, np.int32))
      at += len(IMAGE)
    ids.append(known[chunk][0])
    offsets.append(known[chunk][1] + np.int32(at))
    at += len(chunk)
  offsets = np.concatenate(offsets)
  last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
  kinds = [kind for _, kind in pieces]
  piece = np.array(ends[:-1]).searchsorted(last, side='right')
  first = kinds.index(ANSWER) if ANSWER in kinds else len(kinds)
  begin = ends[first - 1] if first else 0
  return Tokens(
    ids=np.concatenate(ids),
    offsets=offsets,
    kinds=np.array(kinds, np.int8)[piece],
    prompt=np.count_nonzero(last < begin),
    begin=begin,
    text=text,
  )
