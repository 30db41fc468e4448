"""Guards: what is said before an edit is taken that would teach little.

None forbids: whoever submits again is believed, and it is kept that they were
told.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from rlhfv_jax.annotate.marks import Segment

REWRITE = 0.4  # of the words
_WORDS = re.compile(r'\w+')


class Guard(NamedTuple):
  kind: str
  text: str  # what is the matter, and what to do
  way: str  # what submitting again does


def guards(
  rejected: str,
  chosen: str,
  found: Sequence[Segment],
  *,
  clean: bool = False,
) -> list[Guard]:
  """Of an edit; `clean`: of one that is left behind as without an error."""
  if clean:
    return [] if chosen == rejected else [
      Guard(
        'edited',
        'The answer was edited, so it is not without an error. Ctrl Enter '
        'takes the edit; u brings the model’s text back.',
        'x again says that there is no error all the same.',
      )
    ]  # fmt: skip
  if not chosen.strip():
    return [
      Guard(
        'empty',
        'The answer is empty. u brings the model’s text back; s skips an '
        'answer of which nothing can be kept.',
        'Submitting again flags it: nothing is trained on.',
      )
    ]
  if chosen == rejected:
    return [
      Guard(
        'equal',
        'Nothing was changed. Correct what the picture does not show; x says '
        'that there is no error.',
        'Submitting again says that there is no error.',
      )
    ]
  return [
    guard
    for guard in (
      _marks_only(rejected, chosen),
      _uncategorised(rejected, chosen, found),
      _rewritten(rejected, chosen, found),
    )
    if guard
  ]


def changed(rejected: str, chosen: str, found: Sequence[Segment]) -> float:
  """The share of words that the edit touches, of the text it touches more."""
  shares = [0.0]
  for text, ranges in (
    (rejected, [s.rejected for s in found]),
    (chosen, [s.chosen for s in found]),
  ):
    words = [word.span() for word in _WORDS.finditer(text)]
    starts = [start for start, _ in ranges]
    last = [bisect_left(starts, b) - 1 for _, b in words]  # to start before b
    met = sum(
      i >= 0 and a < ranges[i][1] for i, (a, _) in zip(last, words, strict=True)
    )
    shares.append(met / len(words) if words else 0.0)
  return max(shares)


def _uncategorised(
  rejected: str, chosen: str, found: Sequence[Segment]
) -> Guard | None:
  missing = [s for s in found if s.label is None]
  if not missing:
    return None
  named = [
    (chosen[slice(*s.chosen)].strip() or rejected[slice(*s.rejected)].strip())
    for s in missing[:3]
  ]
  which = ', '.join(f'“{_short(text)}”' for text in named)
  more = ' and others' if len(missing) > 3 else ''
  return Guard(
    'uncategorised',
    f'No category yet: {which}{more}. 1 to 6 names it, p says that it is only '
    'style.',
    'Submitting again leaves it open; training weighs it all the same.',
  )


def _short(text: str) -> str:
  return text if len(text) <= 40 else f'{text[:39]}…'


def _rewritten(
  rejected: str, chosen: str, found: Sequence[Segment]
) -> Guard | None:
  share = changed(rejected, chosen, found)
  if share <= REWRITE:
    return None
  return Guard(
    'rewritten',
    f'{100 * share:.0f} % of the words are changed. Correct what is wrong and '
    'leave the rest in the model’s own words; p marks what is only style.',
    'Submitting again keeps it as it is.',
  )


def _marks_only(rejected: str, chosen: str) -> Guard | None:
  if _WORDS.findall(rejected) != _WORDS.findall(chosen):
    return None
  return Guard(
    'marks only',
    'Only spaces or punctuation changed, which says nothing about the '
    'picture. u brings the model’s text back; x says that there is no error.',
    'Submitting again keeps it as it is.',
  )
