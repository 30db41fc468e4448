"""How fast this is, measured here: python -m launch.speed --help

  python -m launch.speed                        our step, and what is around it
  python -m launch.speed --peer=torch           beside a plain torch step
  python -m launch.speed --peer=trl             beside TRL: as shipped, at best
  python -m launch.speed --only=step,decode     some of it
  python -m launch.speed --size=7b --peer=trl   a real model, random weights

Every measurement is a process of its own. Sides take turns (ours, theirs,
ours), on the same weights and pairs, and their losses must agree.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags

from launch.speed import child, report
from launch.speed.sizes import SIZES, Size, size

PEERS = {
  'none': (),
  'torch': ('torch',),
  'trl': ('trl-shipped', 'trl-best'),
  'trl-shipped': ('trl-shipped',),
  'trl-best': ('trl-best',),
}
NEEDS = {'torch': ('torch',), 'trl': ('trl', 'datasets', 'torch')}
PARTS = ('step', 'trunk', 'decode', 'input', 'start', 'save')

PEER = flags.DEFINE_list('peer', ['none'], f'Of {", ".join(PEERS)}.')
ONLY = flags.DEFINE_list('only', None, f'Of {", ".join(PARTS)}; all.')
SIZE = flags.DEFINE_enum('size', 'cpu', sorted(SIZES), 'What is measured.')
PAIRS = flags.DEFINE_integer('pairs', None, 'Pairs a step.', lower_bound=1)
TRUNK = flags.DEFINE_integer('trunk', None, 'Tokens of picture and question.')
ANSWER = flags.DEFINE_integer('answer', None, 'Tokens of each answer.')
MICRO = flags.DEFINE_integer('micro', None, 'Micro-batches a step.')
STEPS = flags.DEFINE_integer('steps', 5, 'Timed steps a turn.', lower_bound=1)
FOLDER = flags.DEFINE_string(
  'folder', None, 'Weights and compiled programs, kept; else a temporary one.'
)
JSON = flags.DEFINE_bool('json', False, 'Print the measurements as JSON.')


def wanted(peers: list[str], only: list[str] | None) -> tuple[list, list]:
  """Names of sides and parts, or an error that says what there is."""
  parts = only or list(PARTS)
  for given, known, flag in ((peers, PEERS, 'peer'), (parts, PARTS, 'only')):
    for name in given:
      if name not in known:
        raise ValueError(f'--{flag}={name}: one of {", ".join(known)}')
  sides = [side for name in peers for side in PEERS[name]]
  for side in sides:
    for package in NEEDS[side.partition('-')[0]]:
      if importlib.util.find_spec(package) is None:
        raise ValueError(
          f'--peer={side} needs {package}, which is not installed: pip install '
          "'rlhfv_jax[speed]', or take --peer=none, which needs nothing"
        )
  if sides and 'step' not in parts:
    raise ValueError('--peer is about the step: add it to --only')
  return sides, parts


def comparable(size: Size, sides: list[str]) -> None:
  """Peers know LLaVA and train with AdamW; else nothing could agree."""
  if sides and size.config.vision.kind != 'clip':
    raise ValueError(
      '--peer: transformers, which peers build on, has no model with this '
      'tower: take --size=7b, or --peer=none'
    )
  if sides and size.optimizer != 'adamw':
    raise ValueError(
      f'--peer: peers train with adamw and this size with {size.optimizer}, so '
      'that losses could not agree: take --size=7b, or --peer=none'
    )


def measure(
  size: Size, sides: list[str], parts: list[str], folder: Path, steps: int
) -> dict[str, Any]:
  """All that was asked for, by kind; a side that has turns is a list."""
  run = lambda kind: child.run(kind, size, folder, steps=steps)
  found: dict[str, Any] = {}
  if 'step' in parts or 'trunk' in parts:
    found['products'] = run('products')
  if sides:
    run('export')
  others = sides + (['two-rows'] if 'trunk' in parts else [])
  if 'step' in parts or others:
    found['ours'] = [run('ours')]
  for side in others:
    found[side] = run(side)
    if side in sides:
      report.agree(size, found['ours'][0], found[side], side)
    found['ours'].append(run('ours'))
  for part in ('decode', 'input', 'save'):
    if part in parts:
      found[part] = run(part)
  if 'start' in parts:
    found['start'] = child.starts(size)
  return found


def main(_) -> None:
  try:
    sides, parts = wanted(PEER.value, ONLY.value)
    chosen = size(
      SIZE.value, pairs=PAIRS.value, trunk=TRUNK.value, answer=ANSWER.value,
      micro=MICRO.value,
    )  # fmt: skip
    comparable(chosen, sides)
    with tempfile.TemporaryDirectory() as temporary:
      folder = Path(FOLDER.value or temporary).absolute()
      found = measure(chosen, sides, parts, folder, STEPS.value)
  except (ValueError, child.Failed) as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(1) from error
  if JSON.value:
    about = {'size': SIZE.value, **json.loads(chosen.to_json())}
    print(json.dumps(about | {'measured': found}, indent=2))
  else:
    print(report.text(chosen, found))


if __name__ == '__main__':
  app.run(main)
