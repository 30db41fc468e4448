"""Reading: what a text claims, however badly it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from rlhfv_jax.playroom.language import NUMBER_WORDS, TOKEN, plural, sentence
from rlhfv_jax.playroom.scene import COLOURS, KINDS, PLACES

CATEGORIES = ('object', 'attribute', 'position', 'number')
_KIND_OF = {word: kind for kind in KINDS for word in (kind, plural(kind))}
_NUMBER_OF = {word: n for n, word in NUMBER_WORDS.items()} | {'a': 1, 'an': 1}


@dataclass(frozen=True)
class Claim:
  """Something that a text says about a kind, and the characters that say it."""

  category: str  # one of CATEGORIES
  kind: str
  value: str | int
  start: int
  end: int


@dataclass(frozen=True)
class Mention:
  """A kind that a sentence names, with what it says about it."""

  object: Claim
  attribute: Claim | None = None
  position: Claim | None = None
  number: Claim | None = None

  @property
  def kind(self) -> str:
    return self.object.kind

  @property
  def claims(self) -> list[Claim]:
    parts = (self.object, self.attribute, self.position, self.number)
    return [claim for claim in parts if claim is not None]


@dataclass(frozen=True)
class Sentence:
  """Characters start to end of a text, and what was read there."""

  start: int
  end: int
  mentions: tuple[Mention, ...]
  whole: bool  # it is as the playroom would write it
  unread: int  # words that claim nothing, where it is not


def parse(text: str) -> list[Claim]:
  """All claims of a text, mention by mention; never raises."""
  return [claim for mention in mentions(text) for claim in mention.claims]


def mentions(text: str) -> list[Mention]:
  return [mention for part in read(text) for mention in part.mentions]


def unread(text: str) -> int:
  """How many words claim nothing and belong to no good sentence."""
  return sum(part.unread for part in read(text))


@lru_cache(maxsize=65536)
def read(text: str) -> tuple[Sentence, ...]:
  """The sentences of a text; a full stop or a question mark ends one."""
  sentences, tokens = [], []
  for token in TOKEN.finditer(text):
    tokens.append(token)
    if token[0] in '.?':
      sentences.append(_read_sentence(text, tokens))
      tokens = []
  if tokens:
    sentences.append(_read_sentence(text, tokens))
  return tuple(sentences)


def _read_sentence(text: str, tokens: list[re.Match]) -> Sentence:
  found = _find_mentions(tokens)
  start, end = tokens[0].start(), tokens[-1].end()
  whole = len(found) == 1 and text[start:end] == _rewrite(found[0])
  spans = [(c.start, c.end) for mention in found for c in mention.claims]
  unread = sum(
    not any(start <= token.start() < end for start, end in spans)
    for token in tokens
    if token[0] not in '.,?'
  )
  return Sentence(start, end, tuple(found), whole, 0 if whole else unread)


def _rewrite(mention: Mention) -> str:
  """What the playroom would have written to say the same."""
  colour = mention.attribute and mention.attribute.value
  place = mention.position and mention.position.value
  number = mention.number.value if mention.number else 1
  return sentence(mention.kind, number, colour=colour, place=place)


def _find_mentions(tokens: list[re.Match]) -> list[Mention]:
  """Place, number and colour belong to the next noun."""
  found: list[dict[str, tuple]] = []
  waiting: dict[str, tuple] = {}
  for token, after in zip(tokens, [*tokens[1:], None], strict=True):
    word = token[0].lower()
    place = f'{word} {after[0].lower()}' if after else ''
    if word in _NUMBER_OF:
      waiting['number'] = (_NUMBER_OF[word], *token.span())
    elif word in COLOURS:
      waiting['attribute'] = (word, *token.span())
    elif word in _KIND_OF:
      found.append({**waiting, 'object': (_KIND_OF[word], *token.span())})
      waiting = {}
    elif place in PLACES:
      waiting['position'] = (place, token.start(), after.end())
  return [_mention(parts) for parts in found]


def _mention(parts: dict[str, tuple]) -> Mention:
  kind = parts['object'][0]
  return Mention(**{part: Claim(part, kind, *c) for part, c in parts.items()})
