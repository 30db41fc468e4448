"""Hosts: one run in many processes. One writes and talks; who waits for whom.

All processes run the same program over the same shared folder, and the arrays
lie over the devices of all. What computes on devices they do together; files
are process 0's, and the others wait before they read them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its key-value store has no public name
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from rlhfv_jax.sharding import BATCH

PATIENCE_MS = 7 * 24 * 3600 * 1000  # who died is the watch's to say
_meetings = itertools.count()
_waiting = ThreadPoolExecutor(1, 'meet')
_alone = False


class Terminated(SystemExit):
  """SIGTERM: what was trained is saved, and the same command goes on.

  All of a run's processes end by it, or this one, and the others follow.
  """

  def __init__(self, *, everyone: bool = False):
    super().__init__(128 + signal.SIGTERM)
    self.everyone = everyone


def leader() -> bool:
  """Whether this is the process that writes and talks."""
  return jax.process_index() == 0


def together() -> bool:
  """Whether others compute with this process, and do now what it does."""
  return jax.process_count() > 1 and not _alone


def meet() -> None:
  """Waits until every process is here."""
  if together():
    # In a thread, so that a signal is heard meanwhile.
    name = f'meet/{next(_meetings)}'
    _waiting.submit(store().wait_at_barrier, name, PATIENCE_MS).result()


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """What only this process does: inside, nobody is waited for."""
  global _alone
  before, _alone = _alone, True
  try:
    yield
  finally:
    _alone = before


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
  """Process 0 goes through this first, and the others find its files."""
  if not leader():
    meet()
  with alone():
    yield
  if leader():
    meet()


def there(path: Path) -> bool:
  """Whether a file is there, at a moment that is the same for all."""
  found = path.exists()
  meet()
  return found


def whole(tree: Any) -> Any:
  """Arrays that lie over all devices, as numpy arrays on each process."""
  return multihost_utils.process_allgather(tree, tiled=True)


def rows(batch: int, mesh: Mesh) -> np.ndarray:
  """Which rows of a global batch lie on this process's devices, in order."""
  place = NamedSharding(mesh, BATCH)
  held = place.addressable_devices_indices_map((batch,)).values()
  return np.unique(np.concatenate([np.arange(batch)[i] for i in held]))


def told(value: Any) -> list[Any]:
  """What each process says, as JSON has it."""
  if not together():
    return [value]
  name = f'told/{next(_meetings)}'
  said = json.dumps(value, default=str)
  store().key_value_set(f'{name}/{jax.process_index()}', said)
  hear = lambda p: store().blocking_key_value_get(f'{name}/{p}', PATIENCE_MS)
  return [json.loads(hear(p)) for p in range(jax.process_count())]


def agree(what: str, facts: Mapping[str, Any]) -> None:
  """Raises on every process where one has other facts than process 0."""
  everyone = told(facts)
  for p, other in enumerate(everyone):
    first = everyone[0]
    differ = [
      f'{k} is {other.get(k)} there and {first.get(k)} in process 0'
      for k in sorted(first.keys() | other.keys())
      if first.get(k) != other.get(k)
    ]
    if differ:
      more = f' and {len(differ) - 5} more' if len(differ) > 5 else ''
      raise ValueError(
        f'process {p} of {len(everyone)} has another {what} than process 0: '
        f'{"; ".join(differ[:5])}{more}. Start all of them with the same'
      )


def last_step(step: int, *, asked: bool) -> int | None:
  """After which step all stop, once one of them was asked to.

  Nobody is more than one step ahead of another, whose part of the step before
  it has read. So what is said now is heard by all before the step after next.
  """
  if not together():
    return step if asked else None
  if asked:
    # Who spoke first has said it for all.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      store().key_value_set('last/step', str(step + 2))
  found = store().key_value_dir_get('last/')
  return int(found[0][1]) if found else None


def store() -> Any:
  """Where processes leave texts for each other."""
  return distributed.global_state.client
