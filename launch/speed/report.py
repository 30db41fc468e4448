"""Measurements as lines for people, and whether the sides did the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from launch.speed import flops
from launch.speed.sizes import Size

# RLHF-V's whole training: epochs over its corrections (arXiv 2312.00849).
SCHEDULE = 7 * 1400
# Relative differences that float32 and bfloat16 explain.
TOLERANCE = {'float32': 1e-3, 'bfloat16': 3e-2}


def agree(
  size: Size, ours: dict[str, Any], theirs: dict[str, Any], side: str
) -> None:
  """The log-probs of the answers, the gradients, and every loss.

  All start at ln 2: only the later losses see the whole of a step. Adapters are
  drawn anew by each side, so that their gradients differ.
  """
  names = ('logps',) if size.rank else ('logps', 'grad_norm', 'loss')
  for name in names:
    a, b = np.array(list(zip(ours[name], theirs[name], strict=False))).T
    worst = int(np.argmax(np.abs(a - b) / np.abs(a)))
    if not np.allclose(a, b, rtol=TOLERANCE[size.config.dtype], atol=0):
      raise ValueError(
        f'{side} does not do the same: {name} number {worst} is '
        f'{b[worst]:.6g} there and {a[worst]:.6g} here'
      )


def text(size: Size, found: dict[str, Any]) -> str:
  """A line each."""
  lines = []
  if 'ours' in found:
    lines += _steps(size, found)
  lines += [_AROUND[kind](found[kind]) for kind in _AROUND if kind in found]
  return '\n'.join(lines)


def _middle(turns, what='seconds'):
  """Of all turns; the least and the most say how far they are apart."""
  return float(np.median([turn[what] for turn in turns]))


def _steps(size, found):
  c, ours = size.config, found['ours']
  yield (
    f'{size.pairs} pairs a step, trunk {size.trunk} ({c.image_tokens} of the '
    f'picture), answers 2 x {size.answer}, {c.dtype}, '
    f'{ours[0]["devices"]} x {ours[0]["device"]}'
  )
  yield (
    f'{"":13}{"s/step":>8}{"least":>8}{"most":>8}{"cpu s":>8}{"pairs/s":>9}'
    f'{"peak MiB":>10}  last loss'
  )
  sides = [(f'ours, turn {i + 1}', x) for i, x in enumerate(ours)]
  others = [k for k in ('two-rows', 'torch', 'trl-shipped', 'trl-best')
            if k in found]  # fmt: skip
  for name, x in sides + [(k, found[k]) for k in others]:
    yield (
      f'{name:13}{x["seconds"]:8.3f}{x["least"]:8.3f}{x["most"]:8.3f}'
      f'{x["processors"]:8.2f}{size.pairs / x["seconds"]:9.2f}'
      f'{x["peak_mib"]:10.0f}  '
      f'{x["loss"][-1]:.6f}'
    )
  middle = _middle(ours)
  for name in others:
    wall, cpu = (found[name][k] / _middle(ours, k)
                 for k in ('seconds', 'processors'))  # fmt: skip
    version = found[name].get('version', '')
    yield (
      f'ours is {wall:.2f} times as fast as {name}, and {cpu:.2f} times by '
      f"the processors' time  {version}"
    ).rstrip()
  yield _share(size, found, middle)
  if c.dtype == 'bfloat16':  # of a model that somebody would train
    minutes = SCHEDULE * middle / size.pairs / 60
    yield (
      f"RLHF-V's {SCHEDULE} pairs, 7 epochs of 1400, take {minutes:.3g} "
      'minutes at this rate'
    )


def _share(size, found, middle):
  device, count = (found['ours'][0][k] for k in ('device', 'devices'))
  rate = flops.pair(size) * size.pairs / middle / count
  tokens = size.pairs * (size.trunk + 2 * size.answer) / middle
  line = f'{tokens:.0f} tokens/s, {rate / 1e12:.3g} TFLOP/s a device'
  if (peak := flops.peak(device)) and size.config.dtype == 'bfloat16':
    line += f', MFU {rate / peak:.1%} of {peak / 1e12:.0f}'
  reached = found['products']['rate']
  return line + f', {rate / reached:.1%} of what large products reach here'


_AROUND = {
  'decode': lambda x: (
    f'decode: {x["tokens_per_second"]:.0f} tokens/s, {x["rows"]} rows of '
    f'{x["new"]} new tokens, prefill included'
  ),
  'input': lambda x: (
    f'input: {x["rows_per_second"]:.0f} rows/s of one thread, from JPEG files'
  ),
  'start': lambda x: (
    f'start: {x["cold"]:.1f} s to the end of the first step, '
    f'{x["warm"]:.1f} s when it was compiled before'
  ),
  'save': lambda x: (
    f'save: the loop stands {x["stall"]:.2f} s, steps beside it take '
    f'{x["slower"]:.2f} s longer: {x["share"]:.1%} of {x["interval"]} steps'
  ),
}  # fmt: skip
