"""The doctor: what is in a set of corrections, and is it safe to train on.

Rows are read once, in order; what is kept of each is small. Nothing stops at a
broken row: all of them are listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlhfv_jax import files
from rlhfv_jax.data import chat, plan
from rlhfv_jax.data.encode import encode
from rlhfv_jax.data.example import Example
from rlhfv_jax.doctor import charts, lengths, overlap, page, problems
from rlhfv_jax.doctor.cards import card
from rlhfv_jax.doctor.lengths import Lengths
from rlhfv_jax.doctor.opening import opened
from rlhfv_jax.doctor.problems import Case, Found, Problem
from rlhfv_jax.doctor.summary import summarize
from rlhfv_jax.doctor.survey import Survey, survey
from rlhfv_jax.doctor.twins import twins
from rlhfv_jax.doctor.verdict import Report
from rlhfv_jax.report import plots

__all__ = ['Report', 'check', 'opened']

_OF_EACH = 6  # rows of each problem that are shown whole


def check(
  source: Sequence[Example],
  *,
  out: str | Path,
  name: str = '',
  tokenizer: Any = None,
  template: chat.Template | None = None,
  image_tokens: int = 0,
  buckets: Sequence[plan.Bucket] | None = None,
  limit: int | None = None,
  against: Sequence[str | Path] = (),
  unread: Sequence[Found] = (),
  sample: int = 96,
  threads: int = 2,
  **options: Any,
) -> Report:
  """Examines every row, writes a page and a list of all cases beside it.

  Lengths are in tokens where a tokenizer and its template are given, and rows
  are laid into `buckets`, or into a few chosen for them; `limit` is how many
  the model takes. `against` names pictures kept for measuring: files of
  benchmarks, folders, sources; `unread` is what `opening` could not open.
  `options` are those of `encode`.
  """
  both = tokenizer is not None and template is not None
  if not both and (tokenizer or template or buckets or limit):
    raise ValueError(
      'lengths in tokens, and buckets and a limit for them, need both a '
      'tokenizer and its chat template: give both, or none of the four'
    )
  out = Path(out)
  held = overlap.read(against)
  how = {'image_tokens': image_tokens, **options}
  tokens = tokenizer and partial(
    encode, tokenizer=tokenizer, template=template, **how
  )
  seen = survey(source, encode=tokens, held=held, threads=threads)
  shapes = _shapes(lengths.measure(seen.usable), buckets, bool(tokenizer))
  of_all = _of_the_set(seen, shapes, held, limit)
  found = problems.gather([*unread, *seen.found, *of_all])
  seen = _without(seen, found)
  shapes = replace(lengths.measure(seen.usable), buckets=shapes.buckets)
  report = Report(
    name or out.stem,
    found,
    summarize(seen, shapes, unit='tokens' if tokenizer else 'words'),
    page=out,
    list=out.with_suffix('.problems.jsonl'),
    where=partial(_where, source),
  )
  _write(report, source, sample, {
    'lengths in': report.summary.unit,
    'image tokens': image_tokens,
    'held against': ', '.join(Path(a).name for a in against) or 'nothing',
    **options,
    **page.MEANINGS,
  })  # fmt: skip
  return report


def _where(source: Sequence[Example], index: int) -> str:
  """Of rows in a file; a list of examples has none."""
  known = index != problems.WHOLE_SET and hasattr(source, 'where')
  return source.where(index) if known else ''


def _shapes(
  found: Lengths, buckets: Sequence[plan.Bucket] | None, tokens: bool
) -> Lengths:
  """With the buckets given, or with those that the rows would choose."""
  if not tokens or not len(found.records):
    return found
  if buckets is None:
    buckets, _ = plan.choose_buckets(found.sizes, prompts=found.prompts)
  answers = found.rests.shape[1]
  if odd := [tuple(b) for b in buckets if b[2] != answers]:
    raise ValueError(
      f'buckets {odd} are for another number of answers than the {answers} '
      'that most rows have: give buckets of that many'
    )
  return replace(found, buckets=tuple(tuple(bucket) for bucket in buckets))


def _of_the_set(
  seen: Survey, shapes: Lengths, held: overlap.HeldOut, limit: int | None
) -> Iterator[Found]:
  """What no row shows alone."""
  if not seen.usable:
    what = f'{seen.rows} rows, none that can be used'
    yield 'no rows', Case(problems.WHOLE_SET, '', what)
  yield from lengths.odd(seen.usable, shapes)
  if shapes.buckets:
    yield from lengths.homeless(shapes)
  if limit:
    yield from lengths.endless(seen.usable, limit)
  yield from twins(seen, held)


def _without(seen: Survey, found: Sequence[Problem]) -> Survey:
  """The survey in which no row with an error counts as usable."""
  broken = {c.index for p in found if p.level == problems.ERROR
            for c in p.cases}  # fmt: skip
  records = [
    record._replace(measure=None) if record.index in broken else record
    for record in seen.records
  ]
  return replace(seen, records=records)


def _write(
  report: Report, source: Sequence[Example], sample: int, options: dict
) -> None:
  drawn = {
    'lengths': charts.lengths(report.summary),
    'corrections': charts.corrections(report.summary),
  }
  figures = {n: plots.svg(f, n) for n, f in drawn.items() if f is not None}
  with files.atomic(report.list) as tmp, open(tmp, 'w', encoding='utf-8') as f:
    for problem in report.problems:
      for case in problem.cases:
        told = {'level': problem.level, 'kind': problem.kind, **case._asdict(),
                'where': report.where(case.index)}  # fmt: skip
        f.write(json.dumps(told) + '\n')
  text = page.render(
    report,
    cards=dict(_cards(report, source, sample)),
    figures=figures,
    options=options,
  )
  files.write_bytes(report.page, text.encode('utf-8', 'replace'))


def _cards(
  report: Report, source: Sequence[Example], sample: int
) -> Iterator[tuple[int, str]]:
  """The first rows of each problem, and others evenly from the whole."""
  faults: dict[int, list] = {}
  chosen = set(np.linspace(0, len(source) - 1, sample).astype(int).tolist())
  for problem in report.problems:
    for case in problem.cases:
      faults.setdefault(case.index, []).append((problem.kind, case.detail))
    chosen |= {case.index for case in problem.cases[:_OF_EACH]}
  for index in sorted(chosen - {problems.WHOLE_SET}):
    if index < len(source):
      try:
        example = source[index]
      except (ValueError, OSError):
        continue
      yield index, card(index, example, faults.get(index, ()))
