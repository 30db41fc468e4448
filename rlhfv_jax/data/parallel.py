"""Parallel: work on numbers in blocks, in this process or in several."""

import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import cloudpickle

WORTH = 40  # blocks, for which a process is worth its start
MOST = 8

_work: Callable[[range], Any]
_one_at_a_time = threading.RLock()


def cores() -> int:
  """As many processes as there are cores, of a large machine some."""
  return min(MOST, os.cpu_count() or 1)


def over(
  work: Callable[[range], Any], count: int, block: int, processes: int
) -> Iterator[tuple[int, Any]]:
  """(first number, work(numbers)) of each block, in order."""
  blocks = [range(k, min(k + block, count)) for k in range(0, count, block)]
  processes = min(processes, len(blocks) // WORTH)
  if processes <= 1:
    for numbers in blocks:
      yield numbers.start, work(numbers)
    return
  # Not forked: this process may have threads, of JAX among others.
  pool = concurrent.futures.ProcessPoolExecutor(
    processes,
    mp_context=multiprocessing.get_context('spawn'),
    initializer=_begin,
    initargs=(cloudpickle.dumps(work),),
  )
  with pool:
    begun: deque = deque()
    for numbers in blocks:
      with hidden_main():
        begun.append((numbers.start, pool.submit(_do, numbers)))
      if len(begun) > 4 * processes:
        start, future = begun.popleft()
        yield start, future.result()
    for start, future in begun:
      yield start, future.result()


@contextlib.contextmanager
def hidden_main() -> Iterator[None]:
  """While processes start: each would import what this one was started with.

  The work needs none of that: cloudpickle sends by value what stands there.
  """
  with _one_at_a_time:
    main = sys.modules['__main__']
    sys.modules['__main__'] = ModuleType('__main__')
    try:
      yield
    finally:
      sys.modules['__main__'] = main


def _begin(work: bytes) -> None:
  global _work
  # Every core has a process already.
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  _work = cloudpickle.loads(work)
  # Cycles are looked for after each block only, and not in what was imported.
  gc.disable()
  gc.freeze()


def _do(numbers: range) -> Any:
  done = _work(numbers)
  gc.collect()
  return done
