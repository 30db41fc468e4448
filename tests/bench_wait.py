"""How long the trainer waits for its input: python -m tests.bench_wait [STEPS]

The playroom's base model, trained as a run trains it, with pictures decoded for
every step: in threads of the trainer, then in two worker processes. `wait` is
the time until a batch is handed over, `step` all the time that a step takes.
While the trainer waits, the devices may still be at the step before: `dry` are
the steps at which they were not when the batch came. The last number is that of
a step with the same batch over and over: what it is below `step` is the work of
input, where it has no cores of its own.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from configs import sft
from rlhfv_jax import sharding, train
from rlhfv_jax.data import images
from rlhfv_jax.stages import pretrain, problem

WARM = 10


def setup(folder: Path) -> problem.Setup:
  config = sft.get_config()
  config.base.update({'captions': 800, 'questions': 400, 'looks': 400})
  config.base.dev = 16
  return problem.setup(config, folder, sharding.make_mesh(config.mesh))


def timed(
  s: problem.Setup, feed: Callable, steps: int
) -> tuple[float, float, int]:
  """Seconds a step, those until the feed gave a batch, and the dry steps."""
  c = s.config.base.train
  program = problem.program(s, 'sft', c)
  hyper = sharding.scalars({'learning_rate': c.lr}, s.mesh)
  state = train.init_state(
    problem.fresh(s), program.tx, program.labels, s.mesh
  )  # fmt: skip
  waits, dry, before = [], [], None
  for step in range(steps + WARM):
    if step == WARM:
      begun = time.perf_counter()
    asked = time.perf_counter()
    batch = feed(state)
    waits.append(time.perf_counter() - asked)
    dry.append(all(x.is_ready() for x in jax.tree.leaves(before)))
    state, stats = program.train_step(state, batch, hyper)
    # As the log does: the numbers of the step before are fetched.
    jax.block_until_ready(before)
    before = stats
  jax.block_until_ready(before)
  spent = time.perf_counter() - begun
  return spent / steps, float(np.mean(waits[WARM:])), sum(dry[WARM:])


def measure(s: problem.Setup, workers: int, steps: int) -> str:
  data, _ = pretrain.data(s)
  s.config.data.workers = workers
  # Nothing that an earlier step decoded is kept.
  pictures = images.Pictures(
    data.source, s.config.image.size, s.config.image.policy, cache_bytes=0
  )
  data = data._replace(images=pictures)
  feed = problem.feed(s, data, s.config.base.train)
  with contextlib.closing(feed):
    step, wait, dry = timed(s, feed, steps)
    batch = feed(None)
  alone, *_ = timed(s, lambda state: batch, steps)
  return (
    f'workers {workers}: step {1e3 * step:.1f} ms, wait {1e3 * wait:.2f} ms, '
    f'{wait / step:.2%} of it, {dry} of {steps} dry; without input '
    f'{1e3 * alone:.1f} ms'
  )


def main() -> None:
  steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
  with tempfile.TemporaryDirectory() as folder:
    s = setup(Path(folder))
    for workers in (0, 2):
      print(measure(s, workers, steps), flush=True)


if __name__ == '__main__':
  main()
