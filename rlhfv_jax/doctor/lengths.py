"""Lengths: how rows lie in their buckets, and which lie in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlhfv_jax.data import plan
from rlhfv_jax.doctor.problems import Case, Found
from rlhfv_jax.doctor.survey import Record


@dataclass(frozen=True)
class Lengths:
  """Of the usable rows, in the number of answers that most of them have."""

  records: tuple[Record, ...]
  trunks: np.ndarray  # i32[N]: prompt and common head
  rests: np.ndarray  # i32[N,C]
  prompts: np.ndarray  # i32[N]
  buckets: tuple[plan.Bucket, ...] = ()

  @property
  def sizes(self) -> np.ndarray:
    """i32[N,1+C], as `plan` has it."""
    return np.concatenate([self.trunks[:, None], self.rests], axis=1)


def measure(records: Sequence[Record]) -> Lengths:
  counts = Counter(len(record.measure.answers) for record in records)
  most = max(counts, key=lambda n: (counts[n], n), default=1)
  kept = tuple(r for r in records if len(r.measure.answers) == most)
  table = np.array(
    [(r.measure.prompt, r.measure.head, *r.measure.answers) for r in kept],
    np.int32,
  ).reshape(-1, 2 + most)
  prompt, head = table[:, 0], table[:, 1]
  return Lengths(kept, prompt + head, table[:, 2:] - head[:, None], prompt)


def fit(lengths: Lengths) -> np.ndarray:
  """i32[N]: the bucket of each row; -1 where none holds it."""
  place = np.full(len(lengths.records), -1, np.int32)
  if not len(place):
    return place
  by_size = np.argsort([plan.slots(b) for b in lengths.buckets], kind='stable')
  for b in by_size[::-1]:
    bucket = lengths.buckets[b]
    place[plan.fits(lengths.sizes, bucket, prompts=lengths.prompts)] = b
  return place


def odd(records: Sequence[Record], lengths: Lengths) -> Iterator[Found]:
  """Rows of another number of answers than most, which share no program."""
  most = lengths.rests.shape[1]
  for record in records:
    if (its := len(record.measure.answers)) != most:
      case = Case(record.index, record.id, f'{its}, and most rows have {most}')
      yield 'answers a row', case


def homeless(lengths: Lengths) -> Iterator[Found]:
  """Rows that fit no bucket, by which part of them is too long."""
  longest = max((trunk for trunk, *_ in lengths.buckets), default=0)
  for i in np.flatnonzero(fit(lengths) < 0):
    record, prompt = lengths.records[i], int(lengths.prompts[i])
    answers = list(record.measure.answers)
    if prompt > longest:
      kind, what = 'prompt', f'{prompt} tokens, the longest trunk has {longest}'
    else:
      kind = 'answers'
      what = f'{prompt} tokens of prompt and {answers} of answers'
    yield (
      f'{kind} longer than every bucket',
      Case(record.index, record.id, what),
    )


def endless(records: Sequence[Record], limit: int) -> Iterator[Found]:
  """Rows with a path that is longer than what the model can take."""
  for record in records:
    path = record.measure.prompt + max(record.measure.answers)
    if path > limit:
      what = f'{path} tokens, and the model takes {limit}'
      yield 'longer than the model takes', Case(record.index, record.id, what)


def padding(lengths: Lengths, bucket: int) -> tuple[int, float]:
  """How many rows lie in a bucket, and the share of its slots they leave."""
  inside = fit(lengths) == bucket
  if not inside.any():
    return 0, 0.0
  slots = plan.slots(lengths.buckets[bucket]) * int(inside.sum())
  return int(inside.sum()), 1 - int(lengths.sizes[inside].sum()) / slots
