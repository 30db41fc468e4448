"""Doubts: where the model was unsure, in what an edit left of its text.

A row's `doubts` are [start, end, ...] in characters of its answer, as `generate
--doubts` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from rlhfv_jax.annotate.marks import Range, Segment

Runs = list[tuple[str, bool]]  # text, and whether the model doubted it


def told(example: dict[str, Any]) -> list[Range]:
  """The row's own, as far as they lie in its answer."""
  answer, found = example['answers'][-1], []
  for entry in example['extra'].get('doubts') or []:
    start, end, *_ = entry
    if 0 <= start < end <= len(answer):
      found.append((start, end))
  return sorted(found)


def runs(
  original: str, found: Sequence[Segment], doubts: Iterable[Range]
) -> list[Runs]:
  """What stands between the segments, each in runs of doubted and not."""
  cuts = [0, *(n for s in found for n in s.rejected), len(original)]
  between = zip(cuts[::2], cuts[1::2], strict=True)
  doubts = list(doubts)
  return [_runs(original, start, end, doubts) for start, end in between]


def _runs(text: str, start: int, end: int, doubts: list[Range]) -> Runs:
  inside = [(max(a, start), min(b, end)) for a, b in doubts]
  edges = {start, end, *(n for a, b in inside if a < b for n in (a, b))}
  return [
    (text[a:b], any(c <= a and b <= d for c, d in inside))
    for a, b in pairwise(sorted(edges))
  ]
