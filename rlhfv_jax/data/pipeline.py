"""The pipeline: from the plan to this process's batches, read ahead.

Worker processes make pictures, which is all that takes long, from the source
and the plan. What is known already, tokens and what belongs to them, stays in
this process: no worker has a copy of it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from rlhfv_jax.data import parallel, plan
from rlhfv_jax.data.images import Pictures
from rlhfv_jax.data.rows import Lookup, Rows, assemble, lengths, prompts

Item = tuple[plan.Bucket, dict[str, np.ndarray]]


class Steps(Sequence):
  """Step k: its bucket and this process's rows, counted over the epochs."""

  def __init__(
    self,
    rows: Rows,
    *,
    seed: int,
    buckets: Sequence[plan.Bucket],
    batch: int,
    epochs: int,
    shuffle: bool = True,
    here: np.ndarray | None = None,
  ):
    self.here = np.arange(batch) if here is None else here
    self.seed, self.epochs, self.shuffle = seed, epochs, shuffle
    self.shapes = {
      'buckets': [tuple(bucket) for bucket in buckets],
      'batch': batch,
      'prompts': np.asarray(prompts(rows)),
    }
    self.lengths = lengths(rows)
    self.steps = plan.steps_per_epoch(self.lengths, **self.shapes)
    self._planned = {}

  def __len__(self) -> int:
    return self.epochs * self.steps

  def __repr__(self) -> str:
    return f'Steps({len(self.lengths)} rows, {self.epochs} x {self.steps})'

  def __getitem__(self, step: int) -> tuple[plan.Bucket, np.ndarray]:
    epoch, place = divmod(step, self.steps)
    bucket, indices = self._plan(epoch)[place]
    return bucket, indices[self.here]

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_planned': {}}

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


class Shown(Sequence):
  """Item k: the pictures of step k."""

  def __init__(self, steps: Steps, images: Pictures):
    self.steps, self.images = steps, images

  def __len__(self) -> int:
    return len(self.steps)

  def __repr__(self) -> str:
    return f'Shown({self.steps!r})'

  def __getitem__(self, step: int) -> np.ndarray:
    _, indices = self.steps[step]
    shape = (len(indices), *self.images.shape)
    pictures = np.zeros(shape, self.images.dtype)
    for b, index in enumerate(indices):
      if index >= 0:
        pictures[b] = self.images[int(index)]
    return pictures


class Items(Sequence):
  """Item k: this process's slice of global batch k, counted over the epochs."""

  def __init__(
    self,
    rows: Rows,
    images: Pictures | None,
    *,
    extras: Mapping[str, Lookup] | None = None,
    read: bool = False,
    **options: Any,
  ):
    self.steps, self.rows = Steps(rows, **options), rows
    self.extras, self.read = dict(extras or {}), read
    self.shown = None if images is None else Shown(self.steps, images)

  def __len__(self) -> int:
    return len(self.steps)

  def __repr__(self) -> str:
    return f'Items({self.steps!r})'

  def __getitem__(self, step: int) -> Item:
    bucket, batch = self.told(step)
    if self.shown is not None:
      batch[self.shown.images.key] = self.shown[step]
    return bucket, batch

  def told(self, step: int) -> Item:
    """All but the pictures."""
    bucket, indices = self.steps[step]
    return bucket, assemble(
      self.rows, indices, bucket, extras=self.extras, read=self.read
    )


class Told(Sequence):
  """Items without their pictures."""

  def __init__(self, items: Items):
    self.items = items

  def __len__(self) -> int:
    return len(self.items)

  def __repr__(self) -> str:
    return f'Told({self.items!r})'

  def __getitem__(self, step: int) -> Item:
    return self.items.told(step)


class Batches(Iterator):
  """Batches in order, read ahead. Its state is the step: {'step': k}."""

  def __init__(
    self, items: Items, start: int = 0, *, workers: int, threads: int
  ):
    self.items, self.step = items, start
    self.workers, self.threads = workers, threads
    self._running: list[Any] = []

  def __next__(self) -> Item:
    if self.step >= len(self.items):
      self.close()
      raise StopIteration
    if self._running:
      (bucket, batch), *pictures = map(next, self._running)
    else:
      with parallel.hidden_main():  # workers start with the first item
        self._running = self._read_ahead()
        (bucket, batch), *pictures = map(next, self._running)
    if pictures:
      batch = batch | {self.items.shown.images.key: pictures[0]}
    self.step += 1
    return bucket, batch

  def _read_ahead(self) -> list[Iterator]:
    items, at = self.items, (self.step, self.threads)
    if not self.workers or items.shown is None:
      return [iter(_ahead(items, *at))]
    pictures = _ahead(items.shown, *at, self.workers)
    return [iter(_ahead(Told(items), *at)), iter(pictures)]

  def get_state(self) -> dict[str, int]:
    return {'step': self.step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    self.close()
    self.step = int(state['step'])

  def close(self) -> None:
    """Ends the readers; the next item starts them again."""
    for reader in self._running:
      reader.close()
    self._running = []

  def __del__(self):
    with contextlib.suppress(Exception):
      self.close()


def _ahead(
  items: Sequence, start: int, threads: int, workers: int = 0
) -> grain.IterDataset:
  """The items from `start` on, made in threads or in worker processes."""
  data = grain.MapDataset.source(items)
  # Endless, and stopped by us: workers that reach an end leave their last
  # batches in shared memory.
  data = data.slice(slice(start, None)).repeat()
  data = data.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
  )
  if not workers:
    return data
  if not flags.FLAGS.is_parsed():
    # grain reads absl flags, which a notebook never parses.
    flags.FLAGS.mark_as_parsed()
  data = data.mp_prefetch(
    grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
  )
  # Out of shared memory, which is small in many containers, while others work.
  return grain.experimental.ThreadPrefetchIterDataset(
    data.map(np.array), prefetch_buffer_size=1
  )


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
  number of processes. `options`: shuffle, extras, read, and `here`, the rows of
  each global batch that are this process's, by default all.
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
