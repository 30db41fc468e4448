"""A text cut into words where NLTK's word_tokenize cuts it.

Penn Treebank conventions on a lower-cased text, with sentences as Punkt finds
them there. Only where nouns begin and end is repeated: contractions without a
noun in them ("can't", "gonna") and abbreviations are not told apart.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ALONE = r';@\#$%&?!*()\[\]{}<>"«»“”‘’„`'
_NEXT = r')";}\]*:@\'({\[!?'  # what ends a sentence without a blank
_CLOSE = r'\])}>"\'»”’'  # what may stand between a last full stop and the end
# Punkt looks at the last possible end of a sentence in a blank-free run only.
_LATER = rf'\S+?[.?!](?:[{_NEXT}]|\s+\S)'
_MARK = rf"""
    [{_ALONE}] | '' | --
  | \.\.+
  | \.(?: (?=\s) | (?=[{_CLOSE}\s]*\Z) | (?=[{_NEXT}])(?!{_LATER}) )
  | [,:](?!\d)
"""
_END = rf'(?=[ ]|\s*\Z|{_MARK})'
_SUFFIX = rf"""
    (?<=[^'\s])'(?:s|m|d|ll|re|ve)?{_END}
  | '(?=(?!re|ve|ll|[mtsdn])\w\b)
"""
_TOKEN = re.compile(
  rf"""
    {_MARK} | {_SUFFIX} | '{_END}
  | (?: [^\s.,:'\-{_ALONE}]+ | (?! {_MARK} | {_SUFFIX} ) \S )+
  """,
  re.VERBOSE,
)


class Word(NamedTuple):
  """A word or a mark, lower case, and where it stands."""

  text: str
  start: int
  end: int


def lower(text: str) -> str:
  """Lower case, character by character: positions stay what they were."""
  low = text.lower()
  if len(low) == len(text):
    return low
  return ''.join(c.lower() if len(c.lower()) == 1 else c for c in text)


def cut(text: str) -> list[Word]:
  """The words and marks of a text, in order."""
  return [
    Word(match.group(), match.start(), match.end())
    for match in _TOKEN.finditer(lower(text))
  ]
