"""One measurement in a process of its own; its last line is the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from launch.speed.sizes import Size

KINDS = ('export', 'ours', 'two-rows', 'torch', 'trl-shipped', 'trl-best',
         'decode', 'input', 'start', 'save', 'products')  # fmt: skip


def measure(kind: str, size: Size, folder: Path, steps: int) -> dict[str, Any]:
  """What a kind measures. Nobody imports what another kind needs."""
  weights = folder / 'weights'
  if kind == 'torch':
    from launch.speed import torch_step

    return torch_step.measure(size, weights, steps=steps)
  if kind.startswith('trl-'):
    from launch.speed import trl_step

    setting = kind.removeprefix('trl-')
    return trl_step.measure(size, weights, steps=steps, setting=setting)

  import jax

  from launch.speed import around, flops, ours
  from rlhfv_jax import process

  process.keep_programs(folder)

  if kind == 'export':
    ours.export(size, weights)
    return {}
  if kind == 'products':
    side = 2048 if jax.default_backend() == 'cpu' else 8192
    return {'rate': flops.measured(size.config.dtype, side), 'side': side}
  if kind in ('ours', 'two-rows'):
    return ours.measure(size, steps=steps, shared=kind == 'ours')
  kinds = {'decode': around.decode, 'input': around.feed,
           'start': around.start, 'save': around.save}  # fmt: skip
  return kinds[kind](size, steps=steps)


if __name__ == '__main__':
  kind, size, folder, steps = sys.argv[1:]
  found = measure(kind, Size.from_json(size), Path(folder), int(steps))
  print(json.dumps(found))
