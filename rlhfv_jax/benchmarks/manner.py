"""How answers are written: so that silence is not sold as honesty."""

from __future__ import annotations

import re
from collections.abc import Sequence

Columns = dict[str, tuple[list[float], list[float]]]
SHORT = 3  # words: what "a single word or phrase" comes to
MANY = 8  # words, of which at least one is common in any English sentence
MOST = 4000  # characters that are looked at: enough to tell a language
_COMMON = frozenset(
  'the a an of and is are in on with to it its this there that at by'.split()  # noqa: SIM905
)
_WORD = re.compile(r'[^\W\d_]+')


def columns(texts: Sequence[str], *, short: bool = False) -> Columns:
  """Words an answer, empty ones, ones in another script; short ones if asked.

  An answer in another language than the lexicon's names nothing and so invents
  nothing; `foreign` counts those.
  """
  ones = [1] * len(texts)
  words = [len(text.split()) for text in texts]
  found: Columns = {
    'length': (words, ones),
    'empty': ([not n for n in words], ones),
    'foreign': ([foreign(text) for text in texts], ones),
  }
  if short:
    found['short'] = ([0 < n <= SHORT for n in words], ones)
  return found


def foreign(text: str) -> bool:
  """Whether a text is in another language than English, as far as shows.

  Most of its letters are not Latin, or it has many words and none of English's
  commonest.
  """
  if not text.isascii():
    letters = [c for c in text[:MOST] if c.isalpha()]
    if 2 * sum(c < 'ɐ' for c in letters) < len(letters):
      return True
  words = _WORD.findall(text[:MOST].lower())
  return len(words) >= MANY and _COMMON.isdisjoint(words)
