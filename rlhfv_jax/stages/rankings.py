"""Rankings: pairs of the model's own sampled answers, the better one first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rlhfv_jax import hosts, rankings
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.stages import given, problem
from rlhfv_jax.stages.answering import answerer, greedy
from rlhfv_jax.stages.problem import Setup

SPLITS = {'train': 'pairs', 'dev': 'dev_pairs', 'test': 'test_pairs'}


def collect(s: Setup) -> None:
  """Two sampled answers to each picture, ranked, with facts about it."""
  folder, c = s.folder / 'rankings', s.config.rankings
  paths = [folder / f'{split}.parquet' for split in SPLITS]
  if c.source or all([hosts.there(path) for path in paths]):
    return
  sampled = dataclasses.replace(greedy(s), temperature=c.temperature)
  answer = answerer(s, problem.base(s), sampled, s.config.feedback.batch)
  for (split, number), path in zip(SPLITS.items(), paths, strict=True):
    rankings.collect(
      problem.world(s), split, c[number], seed=s.config.seed,
      round_size=s.config.feedback.round, answer=answer, folder=folder,
      path=path,
    )  # fmt: skip


def told(s: Setup, split: str) -> Sequence[Example] | given.Side:
  """The ranked pairs of a split; of somebody's, dev is also what is tested."""
  c = s.config
  if c.rankings.source:
    key = f'sides {c.rankings.source} {c.data.dev}'
    if key not in s.read:
      with hosts.in_turn():
        s.read[key] = given.pairs(c.rankings.source, dev=c.data.dev)
    return s.read[key]['dev' if split == 'test' else split]
  return sources.read(s.folder / f'rankings/{split}.parquet')
