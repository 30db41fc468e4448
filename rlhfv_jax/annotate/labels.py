"""Labels: what is wrong in an answer, marked by its words (MHumanEval).

The page knows words by number; here are their characters, so that no browser
has to count them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlhfv_jax.annotate.guards import Guard
from rlhfv_jax.annotate.marks import Segment
from rlhfv_jax.benchmarks.mhumaneval import TYPES

Marked = list[tuple[int, int, str]]  # first word, last word, type
_WORD = re.compile(r'\w+(?:[’\'-]\w+)*|[^\w\s]')


def words(answer: str) -> list[tuple[str, str]]:
  """What stands before each word, and the word; the end has no word."""
  found, at = [], 0
  for word in _WORD.finditer(answer):
    found.append((answer[at : word.start()], word[0]))
    at = word.end()
  return [*found, (answer[at:], '')]


def marked(told: Mapping[str, Any], answer: str) -> Marked:
  """From JSON, whatever somebody sent: apart, in order, inside the answer."""
  found, count = told.get('marked', []), len(words(answer)) - 1
  if not isinstance(found, list) or len(found) > count:
    raise ValueError(f'marked: a list of at most {count}')
  entries = [_entry(entry, count) for entry in found]
  for one, other in zip(entries, entries[1:], strict=False):
    if other[0] <= one[1]:
      raise ValueError(f'marked: {one} and {other} are not apart and in order')
  return entries


def segments(answer: str, found: Marked) -> list[Segment]:
  """In characters: both sides are the answer's own."""
  places = [word.span() for word in _WORD.finditer(answer)]
  spans = [(places[a][0], places[b][1], kind) for a, b, kind in found]
  return [Segment((a, b), (a, b), kind) for a, b, kind in spans]


def guards(found: Sequence, clean: bool) -> list[Guard]:
  """What is said before an answer counts as right by mistake, or as wrong."""
  if clean and found:
    return [
      Guard(
        'marked',
        f'{len(found)} of its segments are marked, so it is not without an '
        'error. u takes the marks away; Ctrl Enter keeps them.',
        'x again says that there is no error all the same.',
      )
    ]
  if not clean and not found:
    return [
      Guard(
        'unmarked',
        'Nothing is marked. Mark what the picture does not show; x says that '
        'all of it is right.',
        'Submitting again says that all of it is right.',
      )
    ]
  return []


def _entry(entry: Any, count: int) -> tuple[int, int, str]:
  if not isinstance(entry, list) or len(entry) != 3 or entry[2] not in TYPES:
    raise ValueError(
      f'{str(entry)[:60]}: first word, last word and one of {", ".join(TYPES)}'
    )
  first, last, kind = entry
  if not (type(first) is type(last) is int and 0 <= first <= last < count):
    raise ValueError(f'{str(entry)[:60]}: words from 0 to {count - 1}')
  return first, last, kind
