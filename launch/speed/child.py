"""A measurement in a process of its own, so that no side sees another's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from launch.speed.sizes import Size


class Failed(RuntimeError):
  """A measurement that ended without a result."""


def run(kind: str, size: Size, folder: Path, *, steps: int) -> dict[str, Any]:
  """What the worker says in its last line; what it says besides is shown."""
  print(f'{kind} ...', file=sys.stderr, flush=True)
  command = [sys.executable, '-m', 'launch.speed.worker', kind]
  command += [size.to_json(), str(folder), str(steps)]
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
  lines = done.stdout.strip().splitlines()
  if done.returncode or not lines:
    raise Failed(
      f'{kind} ended with code {done.returncode} and no result; what it said '
      'is above. Out of memory? --pairs and --micro take less'
    )
  found = json.loads(lines[-1])
  if 'seconds' in found:
    took = ', '.join(f'{found[k]:.3f}' for k in ('seconds', 'processors'))
    print(f'{kind}: {took} s', file=sys.stderr, flush=True)
  return found


def starts(size: Size) -> dict[str, float]:
  """Process to first step, with nothing compiled before and with all of it."""
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    for state in ('cold', 'warm'):
      begun = time.perf_counter()
      parts = run('start', size, Path(folder), steps=1)
      found[state] = time.perf_counter() - begun
      found[f'{state}_step'] = parts['first']
  return found
