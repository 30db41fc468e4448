"""Parallel: work on numbers in blocks, in this process or in several."""

import concurrent.futures
import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

WORTH = 40  # blocks, for which a process is worth its start
MOST = 8

_work: Callable[[range], Any]


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
      begun.append((numbers.start, pool.submit(_do, numbers)))
      if len(begun) > 4 * processes:
        start, future = begun.popleft()
        yield start, future.result()
    for start, future in begun:
      yield start, future.result()


def _begin(work: bytes) -> None:
  global _work
  _work = cloudpickle.loads(work)
  gc.freeze()  # what was imported need not be looked through again and again


def _do(numbers: range) -> Any:
  return _work(numbers)
