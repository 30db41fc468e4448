"""preflight: will a config fit on TPUs that are not here, and how fast."""

from __future__ import annotations

import argparse
import json
import os
import sys

_HELP = """\
Compiles the steps that a config runs, as a run would, for chips that are not
here, and says what they take of each chip. No TPU and no weights are needed.

  python -m rlhfv_jax preflight --config=configs/ddpo.py:rlhfv_13b \\
    --topology=v5e:8x8
  python -m rlhfv_jax preflight --config=configs/ddpo.py:llava15_13b \\
    --topology=v5p-16 --bucket=640,192,2 --config.train.batch=128 --largest

What was compiled is kept in JAX_COMPILATION_CACHE_DIR, or runs/.compiled. The
exit code is 0 where it fits. Any --config.KEY=VALUE is as in a run.
"""


def main(argv: list[str]) -> None:
  ours = [a for a in argv if not a.startswith(('--config=', '--config.'))]
  theirs = [a for a in argv if a not in ours]
  a = _parser().parse_args(ours)
  # libtpu is for the compiler alone: what is computed here is on the CPU.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'  # preflight/once.py
  from rlhfv_jax import options, preflight  # jax reads that when it is imported

  named = [x.split('=', 1)[1] for x in theirs if x.startswith('--config=')]
  if not named:
    raise ValueError('say what to run: --config=configs/ddpo.py:PRESET')
  found = preflight.look(
    options.read(theirs), name=named[-1], place=a.topology,
    bucket=a.bucket, largest=a.largest, only=a.steps,
    progress=lambda text: print(text, file=sys.stderr, flush=True),
  )  # fmt: skip
  from rlhfv_jax.preflight import tell

  why = tell.verdict(found)
  if a.json:
    print(json.dumps(found | {'verdict': why}, indent=1))
  else:
    print('\n'.join(tell.lines(found)))
  if why:
    print(f'\nerror: {why}', file=sys.stderr)
    raise SystemExit(1)
  if not a.json:
    print('\nit fits')


def _bucket(text: str) -> tuple[int, int, int]:
  numbers = tuple(int(n) for n in text.split(','))
  if len(numbers) != 3:
    raise argparse.ArgumentTypeError('three numbers: trunk,branch,answers')
  return numbers


def _steps(text: str) -> tuple[str, ...]:
  known = ('training', 'reference', 'decoding', 'two_rows', 'plain_rows')
  names = tuple(text.split(','))
  if set(names) - set(known):
    raise argparse.ArgumentTypeError(f'some of {", ".join(known)}')
  return names


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m rlhfv_jax preflight', description=_HELP,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  add = parser.add_argument
  add('--config', metavar='FILE[:preset,...]', help='the experiment')
  add('--topology', required=True, metavar='NAME',
      help='chips, as v5e:8x8 or v5e-64')  # fmt: skip
  add('--bucket', type=_bucket, metavar='T,R,C',
      help='trunk, branch and answers of a row')  # fmt: skip
  add('--steps', type=_steps, default=('training',), metavar='A,B',
      help='training, reference, decoding; two_rows and plain_rows share no '
           'trunk, to compare with; %(default)s')  # fmt: skip
  add('--largest', action='store_true', help='search the largest batch too')
  add('--json', action='store_true', help='for programs')
  return parser
