"""The verdict: is it safe to train on this, and if not, why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfv_jax.doctor.problems import (
  ERROR,
  WARNING,
  WHOLE_SET,
  Case,
  Problem,
)
from rlhfv_jax.doctor.summary import Summary, sentences

_SHOWN, _WIDTH = 3, 160


@dataclass(frozen=True)
class Report:
  """What `check` found. Errors make a set unsafe, warnings and notes do not."""

  name: str
  problems: tuple[Problem, ...]  # the worst first
  summary: Summary
  page: Path
  list: Path  # every case of every problem, a JSON line each
  where: Callable[[int], str]  # the file of a row and its place there, or ''

  @property
  def safe(self) -> bool:
    return not self.of(ERROR)

  def of(self, level: str) -> tuple[Problem, ...]:
    return tuple(p for p in self.problems if p.level == level)

  @property
  def headline(self) -> str:
    """The verdict and its reasons, in a sentence or two."""
    errors, warnings = self.of(ERROR), self.of(WARNING)
    worry = _many(len(warnings), 'kind of warning') if warnings else ''
    if not errors:
      what = f'Safe to train on: {self.summary.usable:,} rows'
      return f'{what}, with {worry} to look at.' if worry else f'{what}.'
    rows = {c.index for p in errors for c in p.cases} - {WHOLE_SET}
    why = f'{len(rows):,} of {self.summary.rows:,} rows have errors'
    return f'Not safe to train on: {why if rows else errors[0].kind}.'

  def place(self, case: Case) -> str:
    """Where a case is, as a person looks it up."""
    if case.index == WHOLE_SET:
      return ''
    row = f'row {case.index}'
    named = '' if case.id == row else f' ({case.id})'
    return f'{self.where(case.index) or row}{named}: '

  def what(self, case: Case) -> str:
    """The detail of a case, without the place that some of them begin with."""
    return case.detail.removeprefix(f'{self.where(case.index)}: ')

  def text(self) -> str:
    """For a terminal, which no text of a row may steer."""
    return '\n'.join(map(_printable, self._lines()))

  def _lines(self) -> Iterator[str]:
    yield f'{self.name}: {self.summary.rows:,} rows'
    for what, how in sentences(self.summary):
      yield f'  {what:12} {how}'
    for problem in self.problems:
      yield ''
      yield f'{problem.level.upper():8} {problem.kind}: {problem.text}'
      for case in problem.cases[:_SHOWN]:
        yield f'{"":8} {self.place(case)}{self.what(case)[:_WIDTH]}'
      if (more := len(problem.cases) - _SHOWN) > 0:
        yield f'{"":8} and {more:,} more'
      yield f'{"":8} -> {problem.way_out}'
    yield ''
    yield self.headline
    if self.problems:
      yield f'every case: {self.list}'
    yield f'page: {self.page}'


def _printable(line: str) -> str:
  return ''.join(c if c.isprintable() else '\ufffd' for c in line)


def _many(n: int, what: str) -> str:
  one, _, rest = what.partition(' ')
  return f'{n} {what}' if n == 1 else f'{n} {one}s {rest}'
