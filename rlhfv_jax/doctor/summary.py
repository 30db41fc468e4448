"""The summary: what is in the set, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rlhfv_jax.doctor import lengths as row_lengths
from rlhfv_jax.doctor.lengths import Lengths
from rlhfv_jax.doctor.survey import Survey


@dataclass(frozen=True)
class Summary:
  """Numbers of the usable rows; arrays have an entry a pair."""

  rows: int
  usable: int
  pairs: int
  pictures: int  # that differ
  annotated: int  # pairs with spans of their own
  unit: str  # what lengths count: tokens or words
  chosen: np.ndarray  # of a demonstration, its answer
  rejected: np.ndarray
  segments: np.ndarray  # corrected segments
  corrected: np.ndarray  # share of the tokens of both answers
  shared: np.ndarray  # share of the answer before the first correction
  counts: dict[str, Counter]  # by category, origin, model, annotator
  lengths: Lengths


def summarize(seen: Survey, lengths: Lengths, *, unit: str) -> Summary:
  usable = seen.usable
  pairs = [record for record in usable if len(record.measure.answers) == 2]
  alone = [record for record in usable if len(record.measure.answers) == 1]
  said = np.array([r.measure.answers for r in pairs], np.int32).reshape(-1, 2)
  heads = np.array([r.measure.head for r in pairs], np.int32)
  changed = np.array([sum(r.measure.corrected) for r in pairs], np.int32)
  return Summary(
    rows=seen.rows,
    usable=len(usable),
    pairs=len(pairs),
    pictures=len(seen.pictures),
    annotated=sum(record.annotated for record in pairs),
    unit=unit,
    chosen=said[:, 0]
    if pairs
    else np.array([r.measure.answers[0] for r in alone], np.int32),
    rejected=said[:, 1],
    segments=np.array([len(r.categories) for r in pairs], np.int32),
    corrected=changed / np.maximum(said.sum(axis=1), 1),
    shared=heads / np.maximum(said.min(axis=1, initial=2**30), 1),
    counts={
      'category': Counter(c for r in pairs for c in r.categories if c),
      'origin': _named(r.origin for r in usable),
      'model': _named(r.model for r in usable),
      'annotator': _named(r.annotator for r in usable),
    },
    lengths=lengths,
  )


def _named(names: Iterable[str]) -> Counter:
  return Counter(name for name in names if name)


def sentences(s: Summary) -> Iterator[tuple[str, str]]:
  """(what, how it is), for the terminal and the page alike."""
  if not s.usable:
    return
  alone = s.usable - s.pairs
  kinds = [f'{s.pairs:,} pairs'] * (s.pairs > 0)
  kinds += [f'{alone:,} demonstrations'] * (alone > 0)
  yield 'usable', f'{" and ".join(kinds)} about {s.pictures:,} pictures'
  told = f'{s.chosen.mean():.1f} {s.unit}'
  longest = max(s.chosen.max(), s.rejected.max(initial=0))
  if s.pairs:
    told = f'chosen {told}, rejected {s.rejected.mean():.1f}'
  yield 'answers', f'{told} on average, the longest {longest:,}'
  if s.pairs:
    much = f'{s.segments.mean():.2f} segments a pair'
    share = f'{100 * s.corrected.mean():.1f} % of the {s.unit}'
    first = f'{100 * s.shared.mean():.1f} % of an answer comes before the first'
    yield 'corrections', f'{much}, {share}; {first}'
    how = 'found by a word diff'
    if s.annotated:
      how = f'marked in {s.annotated:,} of {s.pairs:,}, else {how}'
    yield 'spans', 'all marked' if s.annotated == s.pairs else how
  for name, counter in s.counts.items():
    if counter:
      yield name, _shares(counter)
  for b, bucket in enumerate(s.lengths.buckets):
    rows, waste = row_lengths.padding(s.lengths, b)
    yield (
      'bucket',
      f'{shape(bucket)}: {rows:,} rows, {100 * waste:.0f} % padding',
    )


def shape(bucket: tuple[int, int, int]) -> str:
  trunk, branch, answers = bucket
  return f'{trunk} + {answers} x {branch}' if branch else f'{trunk}'


def _shares(counter: Counter, most: int = 6) -> str:
  total = counter.total()
  told = [
    f'{name} {100 * n / total:.1f} %' for name, n in counter.most_common(most)
  ]
  rest = len(counter) - most
  return ', '.join(told) + (f' and {rest} more' if rest > 0 else '')
