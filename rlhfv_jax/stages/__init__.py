"""An experiment: its stages, each leaving files that the next one reads.

Every stage is resumable and is done at once where its result is there.
"""

from __future__ import annotations

from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from rlhfv_jax import hosts
from rlhfv_jax.stages import (
  align,
  bench,
  corrections,
  measure,
  practice,
  pretrain,
  problem,
  rankings,
  reward,
)

STAGES = {
  'eyes': pretrain.see,
  'base': pretrain.talk,
  'feedback': corrections.collect,
  'rankings': rankings.collect,
  'practice': practice.learn,
  'reward': reward.train,
  'judge': reward.measure,
  'reference': align.reference,
  'train': align.train,
  'arms': align.arms,
  'evaluate': measure.measure,
  'report': measure.tell,
  'answer': bench.answer,
  'score': bench.score,
  'show': bench.show,
}

# They compute on no device: process 0 does them.
ALONE = ('report', 'score', 'show')


def run(config: ConfigDict, folder: Path, mesh: Mesh) -> None:
  """All stages that the config names, in its order."""
  unknown = [s for s in config.stages if s not in STAGES]
  if unknown:
    raise ValueError(
      f'config.stages: no stage {unknown[0]!r}, there are {", ".join(STAGES)}'
    )
  made = problem.setup(config, folder, mesh)
  for stage in config.stages:
    if stage not in ALONE:
      STAGES[stage](made)
    elif hosts.leader():
      with hosts.alone():
        STAGES[stage](made)
    hosts.meet()
