"""Corrections: the model's own sampled answers, mended; read once as rows."""

from __future__ import annotations

import dataclasses

from rlhfv_jax import feedback, hosts
from rlhfv_jax.data import sources
from rlhfv_jax.stages import given, problem, rankings
from rlhfv_jax.stages.answering import answerer, greedy
from rlhfv_jax.stages.problem import Data, Setup


def collect(s: Setup) -> None:
  """Sampled answers of the base model, corrected where they are wrong."""
  if s.config.data.source:
    return  # somebody else did
  folder, c = s.folder / 'feedback', s.config.feedback
  wanted = {'train': c.pairs, 'dev': c.dev_pairs}
  paths = [folder / f'{split}.parquet' for split in wanted]
  if all([hosts.there(path) for path in paths]):
    return
  sampled = dataclasses.replace(greedy(s), temperature=c.temperature)
  answer = answerer(s, problem.base(s), sampled, c.batch)
  for split, n in wanted.items():
    feedback.collect(
      problem.world(s), split, n, seed=s.config.seed, round_size=c.round,
      answer=answer, folder=folder, path=folder / f'{split}.parquet',
      noise=c.noise if split == 'train' else 0.0,
    )  # fmt: skip


def _folder(kind: str) -> str:
  kinds = {'corrections': 'feedback', 'rankings': 'rankings'}
  if kind not in kinds:
    raise ValueError(
      f'config.data.pairs = {kind!r}: choose one of {", ".join(kinds)}'
    )
  return kinds[kind]


def pairs(s: Setup) -> tuple[Data, Data]:
  """The corrections as rows; read once for all that treat them alike."""
  c = s.config
  where = 'data' if c.data.source else _folder(c.data.pairs)
  theirs = c.rankings if c.data.pairs == 'rankings' else c.data
  brought = bool(c.data.source or theirs.source)
  key = f'pairs {c.data.to_json()} {c.chat.to_json()}'
  if key not in s.read:
    if c.data.source:
      with hosts.in_turn():
        told = given.pairs(c.data.source, dev=c.data.dev)
    elif c.data.pairs == 'rankings':
      told = {side: rankings.told(s, side) for side in ('train', 'dev')}
    else:
      told = {side: sources.read(s.folder / f'feedback/{side}.parquet')
              for side in ('train', 'dev')}  # fmt: skip
    train = problem.read(
      s, told['train'], name=f'{where}/train', shapes=c.data.buckets,
      augment=c.data.augment, looks=c.data.views, brought=brought,
    )  # fmt: skip
    dev = problem.read(
      s, told['dev'], name=f'{where}/dev', buckets=train.buckets,
      brought=brought,
    )  # fmt: skip
    s.read[key] = train, dev
  return s.read[key]
