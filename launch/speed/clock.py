"""Seconds of steps, their spread, and the memory of whoever took them."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MIB = 2**20


def now() -> np.ndarray:
  """Seconds of the clock, and of all processors that work for this process."""
  return np.array([time.perf_counter(), time.process_time()])


def seconds(
  step: Callable[[], Any], *, warm: int, steps: int
) -> list[np.ndarray]:
  """Of each step after the first `warm`. A step returns when it is done."""
  took = []
  for _ in range(warm + steps):
    begun = now()
    step()
    took.append(now() - begun)
  return took[warm:]


def summary(took: Sequence[np.ndarray]) -> dict[str, float]:
  """The median, the least and the most; the processors' median beside it."""
  clock, processors = np.array(took).T
  return {
    'seconds': float(np.median(clock)),
    'least': float(clock.min()),
    'most': float(clock.max()),
    'processors': float(np.median(processors)),
    'steps': len(took),
  }


def peak_mib() -> float:
  """The most memory that this process ever had."""
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return most / MIB if sys.platform == 'darwin' else most / 1024
