"""Batches from the pipeline, on the devices, in buckets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rlhfv_jax.batch import Batch
from rlhfv_jax.sharding import batch_to_devices


def to_batch(item: tuple, mesh: Mesh) -> Batch:
  """(bucket, numpy arrays) of this process -> a global batch on the mesh."""
  bucket, arrays = item
  return batch_to_devices(Batch(arrays, bucket), mesh)


AHEAD = 2  # batches on the devices that no step has asked for


class DataFeed:
  """A grain iterator as a feed: its state is one step number.

  `prepare` may change a process's arrays before they go to the devices. While
  the devices compute, a thread puts the next batches there; the state counts
  only what was handed over.
  """

  def __init__(
    self, batches: Any, mesh: Mesh, prepare: Callable[[dict], dict] = dict
  ):
    self._batches, self._mesh, self._prepare = batches, mesh, prepare
    self._step = int(batches.get_state()['step'])
    self._thread = ThreadPoolExecutor(1, 'feed')
    self._made: deque[Future] = deque()

  def __call__(self, state: Any) -> Batch:
    while len(self._made) <= AHEAD:
      self._made.append(self._thread.submit(self._make))
    try:
      batch = self._made.popleft().result()
    except BaseException:  # what comes after it is not next
      self.set_state(self.get_state())
      raise
    self._step += 1
    return batch

  def _make(self) -> Batch:
    bucket, arrays = next(self._batches)
    return to_batch((bucket, self._prepare(arrays)), self._mesh)

  def get_state(self) -> dict[str, Any]:
    return {'step': np.array(self._step)}

  def set_state(self, state: dict[str, Any]) -> None:
    self._settle()
    self._step = int(state['step'])
    self._batches.set_state({'step': self._step})

  def close(self) -> None:
    self._settle()
    self._thread.shutdown()
    self._batches.close()

  def _settle(self) -> None:
    """Waits for what is under way, and forgets it."""
    for future in self._made:
      future.cancel()
    wait(self._made)
    self._made.clear()
