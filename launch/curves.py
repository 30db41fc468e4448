"""Healthy and sick runs as pictures, and what they are told of themselves.

  python -m launch.curves OUT [NAME ...]     what docs/curves.md shows

Each is a real run of the small model on one corrected caption.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax

from configs import ddpo
from rlhfv_jax import feedback, files, models, scoring, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.playroom import captions, dataset, scene
from rlhfv_jax.playroom.language import DESCRIBE
from rlhfv_jax.report import plots
from rlhfv_jax.report.diagnosis import diagnose
from rlhfv_jax.stages import closeup, problem

BETA, GAMMA = 20.0, 5.0
RUNS = ('healthy', 'beta', 'gamma', 'reference', 'equal')


def start(folder: Path) -> tuple[problem.Setup, Batch, dict]:
  """The small model, untrained, and a pair with the reference of it."""
  config = ddpo.get_config('small')
  config.train.update({'steps': 40, 'lr': 2e-5, 'warmup': 0.1})
  config.loss.sft_weight = 0.0
  mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
  world = scene.World()
  room = scene.sample(world, 'train', index=4)
  rng = scene.rng_of(room, dataset.CAPTION_STREAM)
  said = captions.noisy_caption(room, rng, world)
  asked = feedback.question(room, DESCRIBE[0])
  s = problem.setup(config, folder, mesh)
  with jax.set_mesh(mesh):
    seen = closeup.pair(s, feedback.correction(asked, room, said))
    params = models.init(s.model, jax.random.key(0))
    return s, referred(s, seen.batch, params), params


def referred(s: problem.Setup, batch: Batch, params: dict) -> Batch:
  """The batch with these parameters as its reference."""
  logps = scoring.scorer(s.model, s.mesh)(params, batch)
  return Batch({**batch, 'ref_logps': logps}, batch.bucket)


def equal(batch: Batch) -> Batch:
  """The chosen answer on both sides."""
  trunk, rest, _ = batch.bucket
  one, other = slice(trunk, trunk + rest), slice(trunk + rest, None)
  same = dict(batch)
  for name in ('tokens', 'ref_logps'):
    same[name] = same[name].at[:, other].set(same[name][:, one])
  same['lengths'] = same['lengths'].at[:, 2].set(same['lengths'][:, 1])
  chosen = batch['roles'][:, 0]
  moved = chosen.at[:, other].set(chosen[:, one]).at[:, one].set(0)
  same['roles'] = batch['roles'].at[:, 1].set(moved)
  return Batch(same, batch.bucket)


def run(name: str, s: problem.Setup, batch: Batch, params: dict) -> list[dict]:
  """What each step of the run of that name said."""
  beta, gamma = BETA, GAMMA
  if name == 'beta':
    beta = 5000.0
  elif name == 'gamma':
    gamma = 5000.0
  with jax.set_mesh(s.mesh):
    if name == 'reference':
      batch = referred(s, batch, models.init(s.model, jax.random.key(1)))
    elif name == 'equal':
      batch = equal(batch)
    return closeup.learn(s, batch, params, beta=beta, gamma=gamma)[1]


def main(out: Path, names: list[str]) -> None:
  begun = start(Path(tempfile.mkdtemp()))
  for name in names or RUNS:
    rows = run(name, *begun)
    files.write_bytes(out / f'{name}.png', plots.png(plots.curves(rows)))
    print(f'{name}: {" ".join(diagnose(rows)) or "nothing is wrong"}')


if __name__ == '__main__':
  if len(sys.argv) < 2:
    sys.exit(__doc__)
  main(Path(sys.argv[1]), sys.argv[2:])
