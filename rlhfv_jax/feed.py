"""Batches from the pipeline, on the devices, in buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rlhfv_jax.batch import Batch
from rlhfv_jax.sharding import batch_to_devices


def to_batch(item: tuple, mesh: Mesh) -> Batch:
  """(bucket, numpy arrays) of this process -> a global batch on the mesh."""
  bucket, arrays = item
  return batch_to_devices(Batch(arrays, bucket), mesh)


class DataFeed:
  """A grain iterator as a feed: its state is one step number.

  `prepare` may change a process's arrays before they go to the devices.
  """

  def __init__(
    self, batches: Any, mesh: Mesh, prepare: Callable[[dict], dict] = dict
  ):
    self._batches, self._mesh, self._prepare = batches, mesh, prepare

  def __call__(self, state: Any) -> Batch:
    bucket, arrays = next(self._batches)
    return to_batch((bucket, self._prepare(arrays)), self._mesh)

  def get_state(self) -> dict[str, Any]:
    return {'step': np.array(self._batches.get_state()['step'])}

  def set_state(self, state: dict[str, Any]) -> None:
    self._batches.set_state({'step': int(state['step'])})

  def close(self) -> None:
    self._batches.close()
