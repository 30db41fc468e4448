"""The feed of PPO: batches of a rollout, and a new rollout when it is used up.

Its state is the rollout, how much of it was handed over, and what is carried to
the next: with the parameters a checkpoint holds all that a run goes on from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhfv_jax import hosts, rollout, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.feed import to_batch
from rlhfv_jax.objectives import ppo


class Rollouts:
  """Each rollout `epochs` times over, in batches, each time in another order.

  `make(params, number, carried)` makes the rollout of that number; `tell` is
  given the first step that it is for, and it. `kl_target` and `kl_rate` adapt
  the coefficient; rate 0 leaves it as it is.
  """

  def __init__(
    self,
    make: Callable[[Any, int, Mapping], rollout.Rollout],
    tell: Callable[[int, rollout.Rollout], None],
    *,
    way: rollout.Way,
    prompts: rollout.Prompts,
    batch: int,
    epochs: int,
    beta: float,
    kl_target: float,
    kl_rate: float,
    mesh: Mesh,
  ):
    self._make, self._tell, self._way = make, tell, way
    self._prompts, self._mesh = prompts, mesh
    self._batch, self._epochs = batch, epochs
    self._target, self._rate = kl_target, kl_rate
    self.steps = epochs * way.size // batch  # that a rollout is good for
    self._arrays = rollout.nothing(way, prompts)
    self._carried = rollout.begin(beta)
    self._made, self._used = 0, self.steps
    self._clock: float | None = None

  def __call__(self, state: Any) -> Batch:
    if self._used == self.steps:
      self._roll(state)
    epoch, place = divmod(self._used, self.steps // self._epochs)
    order = _order(
      self._way.size, self._way.seed, self._made, epoch
    ).reshape(-1, self._batch)  # fmt: skip
    here = hosts.rows(self._batch, self._mesh)
    some = rollout.batch(self._prompts, self._arrays, order[place][here])
    self._used += 1
    return to_batch((some.bucket, some), self._mesh)

  def _roll(self, state: Any) -> None:
    jax.block_until_ready(state.params)
    begun = time.perf_counter()
    seconds = {} if self._clock is None else {
      'time/update': begun - self._clock
    }  # fmt: skip
    made = self._make(state.params, self._made, self._carried)
    self._clock = time.perf_counter()
    kl = made.numbers['objective/kl']
    made.carried['beta'] = np.array(ppo.adapted(
      float(made.carried['beta']), kl, target=self._target, rate=self._rate
    ))  # fmt: skip
    self._arrays, self._carried = made.arrays, made.carried
    self._made, self._used = self._made + 1, 0
    told = made._replace(numbers=made.numbers | seconds)
    self._tell(int(state.step) + 1, told)

  def get_state(self) -> dict[str, Any]:
    position = {'made': np.array(self._made), 'used': np.array(self._used)}
    return {'rollout': self._arrays, 'carried': self._carried} | position

  def set_state(self, state: dict[str, Any]) -> None:
    take = lambda tree: jax.tree.map(np.asarray, dict(tree))
    self._arrays, self._carried = take(state['rollout']), take(state['carried'])
    self._made, self._used = int(state['made']), int(state['used'])


def check(size: int, batch: int, mesh: Mesh) -> None:
  """A rollout has to divide into batches, and they over the mesh."""
  if size % batch:
    raise ValueError(
      f'a rollout of {size} answers is no multiple of the batch of {batch}: '
      'change config.ppo.rollout or config.train.batch'
    )
  sharding.check_batch(batch, mesh)


def _order(size: int, *entropy: int) -> np.ndarray:
  """A permutation, from raw bits, which no numpy release may change."""
  bits = np.random.Philox(np.random.SeedSequence(entropy)).random_raw(size)
  return np.argsort(bits, kind='stable')
