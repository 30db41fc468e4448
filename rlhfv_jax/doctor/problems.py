"""Problems: what can be wrong with rows, how bad that is, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')
WHOLE_SET = -1


class Case(NamedTuple):
  """One row's share of a problem."""

  index: int  # WHOLE_SET where no row has it alone
  id: str
  detail: str


Found = tuple[str, Case]  # the kind of the problem, and whose it is


@dataclass(frozen=True)
class Problem:
  """A kind of problem, and every row that has it."""

  kind: str
  level: str
  way_out: str
  cases: tuple[Case, ...]

  @property
  def rows(self) -> int:
    return len({case.index for case in self.cases} - {WHOLE_SET})

  @property
  def text(self) -> str:
    """How many rows have it, in words."""
    if not self.rows:
      return 'the whole set'
    return f'{self.rows:,} row{"s" if self.rows > 1 else ""}'


# What training could not use, or what would make its numbers worthless, is an
# error. What it can use but is seldom meant is a warning. A note is good to
# know. A kind that is not here is one that a reader raised: an error.
_ERRORS = {
  'no rows': 'check the path, and the filter that chose the rows',
  'unreadable file': 'mend it or do its writing or copying again: none of its '
  'rows was looked at',
  'unreadable row': 'mend the file at that place, or take the row out',
  'undecodable picture': 'fetch the picture again, or take the row out',
  'picture too large': 'scale the picture down before it is stored',
  'turns out of order': 'user and assistant take turns and the user is last',
  'image placeholder': 'store texts without it: the template says where the '
  'picture stands',
  'special token in the text': 'take it out: it would read as markup',
  'no answer': 'a demonstration has one answer, a pair has two',
  'empty answer': 'take the row out: there is nothing to score',
  'equal answers': 'take the row out: its two sides say the same',
  'answers a row': 'make a set for each: demonstrations apart from pairs',
  'spans': 'give a list of spans for each answer, an empty one for none',
  'span outside its answer': 'count characters of the stored answer, from 0',
  'overlapping spans': 'merge them: a character belongs to one correction',
  'half a character': 'read the source as UTF-8, surrogates joined',
  'wrong type': 'write text as text and pictures as bytes',
  'unknown word': 'use the tokenizer of the model that will be trained',
  'prompt and answer joined': 'end the template differently',
  'prompt longer than every bucket': 'add a bucket with a longer trunk, or use '
  'fewer image tokens',
  'answers longer than every bucket': 'add a bucket with a longer branch, or '
  'take the rows out',
  'longer than the model takes': 'take the rows out, or use fewer image tokens',
  'evaluation picture': 'take the row out: what it is measured on later would '
  'have been trained on',
}
_WARNINGS = {
  'empty question': 'write what was asked, or take the row out',
  'no picture': 'a row without a picture cannot teach to look at it',
  'tiny picture': 'look whether it is a placeholder of a failed download',
  'perhaps an evaluation picture': 'give the files of your benchmarks as '
  'AGAINST, which settles it',
  'rewrite': 'correct segments instead: where all changed, none stands out',
  'difference of no word': 'take the row out: it teaches spelling',
  'nothing marked': 'mark what was corrected, or leave the spans away: then a '
  'word diff finds them',
  'difference outside the spans': 'mark it too: it is trained on with the '
  'weight of what did not change',
  'unknown category': 'use the known ones, or numbers by category fall apart',
  'markup in the text': 'take out the tags of another model or template',
  'broken characters': 'read the source as UTF-8',
  'duplicate id': 'name rows apart, or results cannot say which was meant',
  'duplicate rows': 'keep one: the others count it again',
  'near-duplicate rows': 'keep one, unless the repetition is meant',
  'contradiction': 'keep one: the other undoes it',
  'alike pictures': 'the same picture stored twice: split by picture, not row',
}
_NOTES = {
  'alike answers': 'the same words about different pictures teach habit, not '
  'sight',
}
KINDS = {
  **{kind: (ERROR, way_out) for kind, way_out in _ERRORS.items()},
  **{kind: (WARNING, way_out) for kind, way_out in _WARNINGS.items()},
  **{kind: (NOTE, way_out) for kind, way_out in _NOTES.items()},
}
_UNKNOWN = ERROR, 'mend the row in its source, or take it out'


def level(kind: str) -> str:
  return KINDS.get(kind, _UNKNOWN)[0]


def gather(found: Iterable[Found]) -> tuple[Problem, ...]:
  """Cases by kind: the worst first, and of those what most rows have."""
  cases: dict[str, list[Case]] = {}
  for kind, case in found:
    cases.setdefault(kind, []).append(case)
  problems = [
    Problem(kind, *KINDS.get(kind, _UNKNOWN), tuple(sorted(its)))
    for kind, its in cases.items()
  ]
  return tuple(sorted(problems, key=lambda p: (LEVELS.index(p.level), -p.rows)))
