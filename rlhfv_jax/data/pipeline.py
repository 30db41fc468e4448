"""The pipeline: from the plan to this process's batches, read ahead."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from rlhfv_jax.data import plan
from rlhfv_jax.data.images import Pictures
from rlhfv_jax.data.rows import Lookup, Rows, assemble, lengths, prompts

Item = tuple[plan.Bucket, dict[str, np.ndarray]]


class Items(Sequence):
  """Item k: this process's slice of global batch k, counted over the epochs."""

  def __init__(
    self,
    rows: Rows,
    images: Pictures | None,
    *,
    seed: int,
    buckets: Sequence[plan.Bucket],
    batch: int,
    epochs: int,
    shuffle: bool = True,
    process_index: int = 0,
    process_count: int = 1,
    extras: Mapping[str, Lookup] | None = None,
    read: bool = False,
  ):
    if batch % process_count:
      raise ValueError(
        f'a batch of {batch} rows does not divide over {process_count} '
        f'processes: make it a multiple of {process_count}'
      )
    self.rows, self.images, self.epochs = rows, images, epochs
    self.extras, self.read = dict(extras or {}), read
    share = batch // process_count
    self.part = slice(process_index * share, (process_index + 1) * share)
    self.seed, self.shuffle = seed, shuffle
    self.shapes = {
      'buckets': [tuple(bucket) for bucket in buckets],
      'batch': batch,
      'prompts': prompts(rows),
    }
    self.lengths = lengths(rows)
    self.steps = plan.steps_per_epoch(self.lengths, **self.shapes)
    self._planned = {}

  def __len__(self) -> int:
    return self.epochs * self.steps

  def __repr__(self) -> str:
    return f'Items({self.rows.kept} rows, {self.epochs} x {self.steps} batches)'

  def __getitem__(self, step: int) -> Item:
    epoch, place = divmod(step, self.steps)
    bucket, indices = self._plan(epoch)[place]
    indices = indices[self.part]
    batch = assemble(
      self.rows, indices, bucket, extras=self.extras, read=self.read
    )
    if self.images is not None:
      batch['images'] = self._pictures(indices)
    return bucket, batch

  def _plan(self, epoch: int) -> list[tuple[plan.Bucket, np.ndarray]]:
    planned = self._planned.get(epoch)
    if planned is None:
      planned = plan.plan(
        self.seed, epoch, self.lengths, shuffle=self.shuffle, **self.shapes
      )
      # Readers are at most one epoch apart.
      self._planned = {epoch: planned} | {
        e: p for e, p in self._planned.items() if abs(e - epoch) == 1
      }
    return planned

  def _pictures(self, indices: np.ndarray) -> np.ndarray:
    size = self.images.size
    pictures = np.zeros((len(indices), size, size, 3), np.uint8)
    for b, index in enumerate(indices):
      if index >= 0:
        pictures[b] = self.images[int(index)]
    return pictures


class Batches(Iterator):
  """Items in order, read ahead. Its state is the step: {'step': k}."""

  def __init__(
    self, items: Items, start: int = 0, *, workers: int, threads: int
  ):
    self.items, self.step = items, start
    self.workers, self.threads = workers, threads
    self._running = None

  def __next__(self) -> Item:
    if self.step >= len(self.items):
      self.close()
      raise StopIteration
    if self._running is None:
      self._running = self._read_ahead()
    bucket, batch = next(self._running)
    self.step += 1
    if self.workers:
      # Out of shared memory, which is small in many containers.
      batch = {name: np.array(array) for name, array in batch.items()}
    return bucket, batch

  def _read_ahead(self) -> Iterator[Item]:
    data = grain.MapDataset.source(self.items)
    # Endless, and stopped by us: workers that reach an end leave their last
    # batches in shared memory.
    data = data.slice(slice(self.step, None)).repeat()
    ahead = max(2, self.threads)
    data = data.to_iter_dataset(
      grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=ahead)
    )
    if self.workers:
      if not flags.FLAGS.is_parsed():
        # grain reads absl flags, which a notebook never parses.
        flags.FLAGS.mark_as_parsed()
      data = data.mp_prefetch(
        grain.MultiprocessingOptions(
          num_workers=self.workers, per_worker_buffer_size=2
        )
      )
    return iter(data)

  def get_state(self) -> dict[str, int]:
    return {'step': self.step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    self.close()
    self.step = int(state['step'])

  def close(self) -> None:
    """Ends the readers; the next item starts them again."""
    if self._running is not None:
      self._running.close()
      self._running = None

  def __del__(self):
    with contextlib.suppress(Exception):
      self.close()


def batches(
  rows: Rows,
  images: Pictures | None,
  *,
  seed: int,
  buckets: Sequence[plan.Bucket],
  batch: int,
  epochs: int,
  start_step: int = 0,
  workers: int = 0,
  threads: int = 2,
  **options: Any,
) -> Batches:
  """(bucket, arrays) of this process, from `start_step` to the last epoch.

  The same batches for any number of workers and, taken together, for any
  number of processes. `options`: shuffle, process_index, process_count, extras,
  read, as of `Items`.
  """
  items = Items(
    rows,
    images,
    seed=seed,
    buckets=buckets,
    batch=batch,
    epochs=epochs,
    **options,
  )
  return Batches(items, start_step, workers=workers, threads=threads)
