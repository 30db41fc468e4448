"""Batches from the pipeline, on the devices, in buckets."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from queue import SimpleQueue
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
LOOK = 0.005  # seconds until the thread looks again whether there are fewer


class DataFeed:
  """A grain iterator as a feed: its state is one step number.

  `prepare` may change a process's arrays before they go to the devices. While
  the devices compute, a thread puts the next batches there; the state counts
  only what was handed over.
  """

  def __init__(
    self, batches: Any, mesh: Mesh, prepare: Callable[[dict], dict] = dict
  ):
    self._batches = batches
    self._make = functools.partial(_make, batches, mesh, prepare)
    self._step = int(batches.get_state()['step'])
    self._thread: threading.Thread | None = None

  def __call__(self, state: Any) -> Batch:
    if self._thread is None:
      self._begin()
    if self._made.empty():
      self._waits.set()
    batch, error = self._made.get()
    if error is not None:  # what comes after it is not next
      self.set_state(self.get_state())
      raise error
    self._step += 1
    return batch

  def get_state(self) -> dict[str, Any]:
    return {'step': np.array(self._step)}

  def set_state(self, state: dict[str, Any]) -> None:
    self._settle()
    self._step = int(state['step'])
    self._batches.set_state({'step': self._step})

  def close(self) -> None:
    self._settle()
    self._batches.close()

  def _begin(self) -> None:
    self._made, self._waits = SimpleQueue(), threading.Event()
    self._ended = threading.Event()
    # It knows nothing of this object, which may be forgotten before it ends.
    self._thread = threading.Thread(
      target=_fill, name='feed',
      args=(self._make, self._made, self._waits, self._ended),
    )  # fmt: skip
    self._thread.start()

  def _settle(self) -> None:
    """Waits for what is under way, and forgets it."""
    if self._thread is not None:
      self._end()
      self._thread.join()
      self._thread = self._made = None

  def _end(self) -> None:
    self._ended.set()
    self._waits.set()

  def __del__(self):
    if getattr(self, '_thread', None) is not None:
      self._end()


def _make(batches: Any, mesh: Mesh, prepare: Callable[[dict], dict]) -> Batch:
  bucket, arrays = next(batches)
  return to_batch((bucket, prepare(arrays)), mesh)


def _fill(
  make: Callable[[], Batch],
  made: SimpleQueue,
  waits: threading.Event,
  ended: threading.Event,
) -> None:
  """Keeps batches made, until an error, which comes after them in order.

  It looks by itself whether one was taken: a thread that the trainer woke up
  for each would be given the trainer's core, and where all cores are busy the
  trainer would get one back many milliseconds later. Who has to wait anyhow
  does wake it.
  """
  while not ended.is_set() and threading.main_thread().is_alive():
    if made.qsize() >= AHEAD:
      waits.wait(LOOK)
      waits.clear()
      continue
    try:
      made.put((make(), None))
    except BaseException as error:
      made.put((None, error))
      return
