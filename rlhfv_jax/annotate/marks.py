"""Marks: the segments of an edit, and what the person said of each.

The diff is that of training. What a person says of a segment is kept by where
it stands in the model's own text, which never changes, so it stays with the
segment while they type on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhfv_jax.data import segments
from rlhfv_jax.data.example import CATEGORIES
from rlhfv_jax.data.formats.annotations import STYLE

Range = tuple[int, int]
LABELS = (*CATEGORIES, STYLE)
_FIRST = re.compile(r'\s*(?:\w+|[^\w\s]+)')


class Segment(NamedTuple):
  """Characters of the corrected text that stand for some of the model's."""

  chosen: Range
  rejected: Range
  label: str | None = None


class Marks(NamedTuple):
  """What a person did beside typing, by ranges of the model's text."""

  labels: tuple[tuple[int, int, str], ...] = ()
  joins: tuple[Range, ...] = ()  # segments in it are one
  splits: tuple[Range, ...] = ()  # that segment's first words are another one

  @classmethod
  def of(cls, told: Mapping[str, Any]) -> Marks:
    """From JSON, whatever somebody sent."""
    if not isinstance(told, Mapping):
      raise ValueError('marks: an object of labels, joins and splits')
    return cls(
      tuple(_entry(e, 3) for e in _list(told, 'labels')),
      tuple(_entry(e, 2) for e in _list(told, 'joins')),
      tuple(_entry(e, 2) for e in _list(told, 'splits')),
    )


def arrange(rejected: str, chosen: str, marks: Marks) -> list[Segment]:
  """The diff's segments, split and joined as the person wants, with labels."""
  found = [
    Segment(*pair)
    for pair in zip(*segments.spans(chosen, rejected), strict=True)
  ]
  for place in marks.splits:
    found = [
      part
      for segment in found
      for part in (
        _halves(segment, rejected, chosen)
        if segment.rejected == place
        else [segment]
      )
    ]
  for place in marks.joins:
    found = _join(found, place)
  return [s._replace(label=_label(s, marks.labels)) for s in found]


def pieces(
  rejected: str, chosen: str, found: Sequence[Segment]
) -> dict[str, Any]:
  """What a page shows: texts alone, so that no one there counts characters."""
  same, at = [], 0
  for segment in found:
    same.append(chosen[at : segment.chosen[0]])
    at = segment.chosen[1]
  return {
    'same': [*same, chosen[at:]],
    'segments': [
      {
        'old': rejected[slice(*s.rejected)],
        'new': chosen[slice(*s.chosen)],
        'at': list(s.rejected),
        'label': s.label,
        'splits': len(_halves(s, rejected, chosen)) > 1,
      }
      for s in found
    ],
  }


def _halves(segment: Segment, rejected: str, chosen: str) -> list[Segment]:
  """The first words of both sides, and the rest."""
  (a, b), (c, d) = segment.chosen, segment.rejected
  old, new = _FIRST.match(rejected, c, d), _FIRST.match(chosen, a, b)
  if not old or not rejected[old.end() : d].strip():
    return [segment]
  cut, mark = new.end() if new else a, old.end()
  rest, rest_old = cut, mark
  if cut < b and chosen[cut] == rejected[mark] and chosen[cut].isspace():
    rest, rest_old = cut + 1, mark + 1
  return [Segment((a, cut), (c, mark)), Segment((rest, b), (rest_old, d))]


def _join(found: list[Segment], place: Range) -> list[Segment]:
  inside = [
    i for i, s in enumerate(found)
    if place[0] <= s.rejected[0] and s.rejected[1] <= place[1]
  ]  # fmt: skip
  if len(inside) < 2:
    return found
  first, last = found[inside[0]], found[inside[-1]]
  whole = Segment(
    (first.chosen[0], last.chosen[1]), (first.rejected[0], last.rejected[1])
  )
  return [*found[: inside[0]], whole, *found[inside[-1] + 1 :]]


def _label(segment: Segment, labels: Sequence) -> str | None:
  """The label of the same place, or of the one that it shares most with.

  An insertion has no characters of the model's: a space may move it by one.
  """
  start, end = segment.rejected
  best, most = None, 0
  for a, b, label in labels:
    shared = min(end, b) - max(start, a)
    if (a, b) == (start, end):
      return label
    if a == b and start == end and abs(a - start) <= 1:
      shared = 1
    if shared > most:
      best, most = label, shared
  return best


def _list(told: Mapping[str, Any], name: str) -> list:
  found = told.get(name, [])
  if not isinstance(found, list) or len(found) > 1000:
    raise ValueError(f'{name}: a list of at most 1000')
  return found


def _entry(entry: Any, size: int) -> tuple:
  if not isinstance(entry, list) or len(entry) != size:
    raise ValueError(f'{str(entry)[:60]}: {size} entries make a mark')
  if any(type(n) is not int or n < 0 for n in entry[:2]) or (
    entry[0] > entry[1]
  ):
    raise ValueError(f'{str(entry)[:60]}: a mark starts before it ends')
  if size == 3 and entry[2] not in LABELS:
    raise ValueError(f'{str(entry[2])[:60]!r}: labels are {", ".join(LABELS)}')
  return tuple(entry)
