"""Agreement: how far two people corrected the same things, as the same kind.

Both worked on the model's own text, so its characters are what they can be
compared by. An insertion touches the gap that it stands in.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from rlhfv_jax.annotate.marks import Segment

Touched = dict[tuple[int, bool], str | None]  # (place, gap) -> label


def touched(segments: Sequence[Segment]) -> Touched:
  """The characters and gaps of the model's text that segments replace."""
  found: Touched = {}
  for segment in segments:
    start, end = segment.rejected
    places = ((i, False) for i in range(start, end))
    found |= dict.fromkeys(
      places if end > start else [(start, True)], segment.label
    )
  return found


def span_f1(one: Touched, other: Touched) -> float:
  """2 |both| / (|one| + |other|); 1 where neither found an error."""
  total = len(one) + len(other)
  return 2 * len(one.keys() & other.keys()) / total if total else 1.0


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
  """Cohen (1960) over what both named; nothing where they named nothing."""
  n = len(pairs)
  if not n:
    return None
  same = sum(a == b for a, b in pairs) / n
  one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
  chance = sum(one[label] * other[label] for label in one) / n**2
  return 1.0 if chance == 1 else (same - chance) / (1 - chance)


def named(one: Touched, other: Touched) -> list[tuple[str, str]]:
  """The labels of each place that both touched and named."""
  return [
    (one[place], other[place])
    for place in sorted(one.keys() & other.keys())
    if one[place] and other[place]
  ]


def between(done: Mapping[str, Mapping[int, Sequence[Segment]]]) -> list[dict]:
  """{person: {item: segments}} -> a line for each two who share items."""
  lines = []
  for a, b in itertools.combinations(sorted(done), 2):
    shared = sorted(done[a].keys() & done[b].keys())
    if not shared:
      continue
    pairs = [(touched(done[a][i]), touched(done[b][i])) for i in shared]
    f1 = [span_f1(*pair) for pair in pairs]
    labels = [label for pair in pairs for label in named(*pair)]
    lines.append(
      {'people': (a, b), 'items': shared, 'f1': sum(f1) / len(f1),
       'each': f1, 'kappa': kappa(labels)}
    )  # fmt: skip
  return lines
