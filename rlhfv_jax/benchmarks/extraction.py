"""Lists of objects that a judge made of an answer, read through a lexicon."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rlhfv_jax.benchmarks.lexicon import (
  Lexicon,
  Mention,
  phrased,
  without_seats,
)
from rlhfv_jax.benchmarks.words import Word, cut

# (text, lemma, Penn tag) of each token, as a tagger gives them.
Analysis = Sequence[tuple[str, str, str]]
_NOUNS = ('NN', 'NNS', 'NNP', 'NNPS')
_SMALL = frozenset(
  'a an the of in on at with and or to from for by its his her their'.split()  # noqa: SIM905
)
_EMPTY = re.compile(
  r'\(\s*\)|\[\s*\]|\bnone\b|\bno (?:visible )?objects?\b', re.I
)


def listed(reply: str, *, strict: bool = True) -> list[str] | None:
  """The names in a reply, None if it cannot be read.

  Strict is RLHF-V's parser: the reply is JSON, or it holds [" and its last line
  is. What is no list goes through as Python iterates it: a dictionary's keys, a
  string's characters. Lenient finds the last list, in either kind of quotes.
  """
  value = _strict(reply)
  if strict:
    return None if value is None else [str(item) for item in value]
  if isinstance(value, list):
    return [str(item) for item in value]
  for found in reversed(re.findall(r'\[[^\[\]]*\]', reply)):
    for read in (json.loads, ast.literal_eval):
      try:
        return [str(item) for item in read(found)]
      except (ValueError, SyntaxError, TypeError):
        continue
  return [] if _EMPTY.search(reply) else None


def _strict(reply: str) -> Any:
  """The JSON value that can be iterated over, else None."""
  value = None
  try:
    value = json.loads(reply)
  except (ValueError, RecursionError):
    if '["' in reply:
      try:
        value = json.loads(reply.strip().split('\n')[-1])
      except (ValueError, RecursionError):
        return None
  return value if isinstance(value, list | dict | str) else None


def mentions(
  names: Iterable[str],
  lexicon: Lexicon,
  analyse: Callable[[str], Analysis] | None = None,
) -> list[Mention]:
  """The objects among the names, each word once an answer.

  They stand nowhere in the answer: their place is empty.
  """
  analyse = analyse or (lambda text: analysis(text, lexicon))
  words = [
    Word(word, 0, 0)
    for word in dict.fromkeys(
      word for name in names for word in _words(analyse(f'a {name}'), lexicon)
    )
  ]
  return [
    Mention(word.text, lexicon.classes[word.text], 0, 0)
    for word in without_seats(words)
    if word.text in lexicon.classes
  ]


def analysis(text: str, lexicon: Lexicon) -> Analysis:
  """A tagger for names: every word that is not a small one is a noun."""
  return [(w.text, lexicon.lemma(w.text), _tag(w.text)) for w in cut(text)]


def _tag(word: str) -> str:
  return 'NN' if word[0].isalnum() and word not in _SMALL else 'X'


def _words(tokens: Analysis, lexicon: Lexicon) -> list[str]:
  """The two-word terms of a name if it has any, else its runs of nouns."""
  if terms := pairs([lemma for _, lemma, _ in tokens], lexicon):
    return terms
  runs, run = [], []
  for _, lemma, tag in [*tokens, ('', '', '')]:
    if tag in _NOUNS:
      run.append(lemma)
    elif run:
      runs.append(' '.join(run))
      run = []
  return runs


def pairs(lemmas: Sequence[str], lexicon: Lexicon) -> list[str]:
  """The terms of several words among lemmas, as the lexicon reads them."""
  return [text for text, i, j in phrased(list(lemmas), lexicon) if j - i > 1]
