"""What a compiled TPU program says of itself: cycles, transfers, arrays.

The compiler estimates the cycles of what runs on the chip's own units.
Transfers between chips and hand-written kernels carry no estimate, so the sum
is a lower bound of the time of a step, and a fine measure of what a change does
to it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import NamedTuple

KINDS = ('all-gather', 'reduce-scatter', 'all-reduce', 'all-to-all',
         'collective-permute')  # fmt: skip
UNKNOWN = str(2**63 - 1)  # of what is given to another unit of the chip
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'bf16': 2, 'f16': 2,
          's32': 4, 'u32': 4, 'f32': 4, 's64': 8, 'f64': 8}  # fmt: skip
_SHAPE = re.compile(r'\b(' + '|'.join(_BYTES) + r')\[([\d,]*)\]')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)'
)


class Program(NamedTuple):
  """Of one chip and one step."""

  cycles: float
  collectives: dict[str, int]  # how many of each kind are run
  bytes: dict[str, int]  # what they bring, by kind
  beside: int  # collectives that are written to run beside products
  kernels: int  # hand-written ones, whose time is not counted
  shapes: dict[tuple[str, tuple[int, ...]], int]  # of all arrays, how often
  gathered: dict[tuple[str, tuple[int, ...]], int]  # of all-gathers


def read(text: str, *, taken: float = 1.0) -> Program:
  """`compiled.as_text()`. Of conditionals the longest branch, `taken` of times:
  chunks of the head that hold no scored token are skipped."""
  parts, entry = _computations(text)
  collectives, size = Counter(), Counter()
  cycles = _walk(parts, entry, 1.0, taken, collectives, size, set())
  found = defaultdict(int)
  for kind, dims in _SHAPE.findall(text):
    found[kind, _dims(dims)] += 1
  gathers = defaultdict(int)
  for line in text.splitlines():
    if re.search(r'= .*\ball-gather(?:-start)?\(', line):
      result = line.split('= ', 1)[1].split(' all-gather')[0]
      for kind, dims in _SHAPE.findall(result):
        gathers[kind, _dims(dims)] += 1
  return Program(
    cycles,
    {k: round(n) for k, n in collectives.items()},
    {k: round(n) for k, n in size.items()},
    len(re.findall(r'AsyncCollectiveStart|all-gather-start\(', text)),
    text.count('tpu_custom_call'),
    dict(found),
    dict(gathers),
  )


def _dims(text):
  return tuple(int(d) for d in text.split(',') if d)


def _computations(text):
  """Name -> its lines, and the name of the first one that is run."""
  parts, current, entry = {}, None, None
  for line in text.splitlines():
    head = re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\{$', line)
    if head:
      current = head[2]
      parts[current] = []
      entry = current if head[1] else entry
    elif line == '}':
      current = None
    elif current:  # the text of a kernel may begin a line anywhere
      parts[current].append(line)
  return parts, entry


def _trips(parts, line):
  known = re.search(r'"known_trip_count":\{"n":"?(\d+)', line)
  if known:
    return int(known[1])
  condition = re.search(r'condition=%?([\w.\-]+)', line)
  bounds = re.findall(
    r'constant\((\d+)\)', '\n'.join(parts.get(condition[1], ()))
  )
  return max(map(int, bounds), default=1)


def _walk(parts, name, times, taken, collectives, size, seen):
  """Cycles of a computation; its collectives are counted on the way.

  One that runs beside products is written where it starts, in each of them and
  where it ends; its channel says that it is one.
  """
  cycles = 0.0
  for line in parts.get(name, ()):
    estimate = re.search(r'"estimated_cycles":"(\d+)"', line)
    own = int(estimate[1]) if estimate and estimate[1] != UNKNOWN else 0
    down = lambda part, often: _walk(
      parts, part, often, taken, collectives, size, seen
    )
    branches = re.search(r'branch_computations=\{([^}]*)\}', line)
    kind = next(
      (k for k in KINDS if re.search(rf'\b{k}(?:-start)?\(', line)), None
    )
    channel = re.search(r'channel_id=(\d+)', line)
    if kind and not (channel and channel[1] in seen):
      seen.update([channel[1]] if channel else ())
      collectives[kind] += times
      size[kind] += times * _result(line)
    if ' while(' in line:
      trips = _trips(parts, line)
      body = re.search(r'body=%?([\w.\-]+)', line)[1]
      cycles += trips * down(body, times * trips)
    elif branches:
      names = [b.strip().lstrip('%') for b in branches[1].split(',')]
      cycles += taken * max(down(b, times * taken) for b in names)
    else:
      inside = sum(down(part, times) for part in _CALLED.findall(line))
      cycles += own or inside
  return cycles


def _result(line):
  """Bytes of what an instruction gives."""
  result = re.split(r' (?:' + '|'.join(KINDS) + r')', line, maxsplit=1)[0]
  sizes = [
    _BYTES[kind] * math.prod(_dims(dims))
    for kind, dims in _SHAPE.findall(result)
  ]
  return max(sizes, default=0)
