"""POPE's questions for any pictures whose objects are known."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhfv_jax import files
from rlhfv_jax.benchmarks.coco import Picture
from rlhfv_jax.benchmarks.pope import SPLITS

EACH = 3  # things asked about that are there, and as many that are not


def build(
  pictures: Mapping[str, Picture],
  split: str,
  *,
  n: int = 500,
  each: int = EACH,
  seed: int = 0,
) -> list[dict]:
  """Records of an official file: half of the answers are yes.

  Asked are `n` pictures with at least `each` kinds of things. What is not there
  is drawn at random, or is what most pictures have, or what most often stands
  with the things that are there (Li et al. 2023, section 5.1). The three
  splits ask about the same pictures and the same things in them.
  """
  if split not in SPLITS:
    raise ValueError(f'split {split!r}: it is one of {", ".join(SPLITS)}')
  kinds = {i: sorted(set(p.objects)) for i, p in pictures.items()}
  every = sorted({kind for there in kinds.values() for kind in there})
  able = sorted(
    i for i, k in kinds.items() if each <= len(k) <= len(every) - each
  )
  if len(able) < n:
    raise ValueError(
      f'{len(able)} of {len(pictures)} pictures have {each} kinds of things '
      f'and lack {each}: too few for n = {n}'
    )
  rng = random.Random(seed)
  common = Counter(kind for there in kinds.values() for kind in there)
  together = _together(kinds.values())
  records = []
  for i in rng.sample(able, n):
    there = kinds[i]
    asked = rng.sample(there, each)
    absent = [kind for kind in every if kind not in there]
    rng.shuffle(absent)
    if split == 'popular':
      absent.sort(key=lambda kind: -common[kind])
    if split == 'adversarial':
      absent.sort(key=lambda kind: -sum(together[k, kind] for k in there))  # noqa: B023
    for yes, no in zip(asked, absent[:each], strict=True):
      for kind, label in ((yes, 'yes'), (no, 'no')):
        records.append({
          'question_id': len(records) + 1,
          'image': pictures[i].file or i,
          'text': question(kind),
          'label': label,
        })  # fmt: skip
  return records


def write(path: str | Path, records: Sequence[Mapping]) -> None:
  files.write_lines(path, list(records))


def question(kind: str) -> str:
  article = 'an' if kind[0] in 'aeiou' else 'a'
  return f'Is there {article} {kind} in the image?'


def _together(kinds) -> Counter:
  """(a, b) -> pictures that have both."""
  return Counter(
    pair for there in kinds for pair in itertools.permutations(there, 2)
  )
