"""A run on GKE: a JobSet, filled in and handed to kubectl.

python -m launch.gke COMMAND --name=NAME [OPTIONS] [-- ARGUMENTS OF main]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name('jobset.yaml')
# What GKE calls them, and how many chips a host of a larger slice has.
KINDS = {
  'v4': ('tpu-v4-podslice', 4),
  'v5e': ('tpu-v5-lite-podslice', 4),
  'v5p': ('tpu-v5p-slice', 4),
  'v6e': ('tpu-v6e-slice', 4),
}
NEEDED = ('image', 'bucket', 'type', 'topology')


def main(argv: Sequence[str]) -> None:
  at = list(argv).index('--') if '--' in argv else len(argv)
  asked = parser().parse_args(argv[:at])
  asked.arguments = list(argv[at + 1 :])
  try:
    code = COMMANDS[asked.command](asked)
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from error
  raise SystemExit(code)


def parser() -> argparse.ArgumentParser:
  p = argparse.ArgumentParser(
    'python -m launch.gke', description=__doc__.splitlines()[0],
    epilog='python -m launch.gke apply --name=first --type=v5e --topology=4x4 '
    '--image=IMAGE --bucket=my-runs --spot -- '
    '--config=configs/ddpo.py:rlhfv_13b --workdir=/runs/first ...',
  )  # fmt: skip
  p.add_argument('command', choices=sorted(COMMANDS),
                 help='render prints the manifest; apply hands it to kubectl '
                 'and replaces a run of that name that is over')  # fmt: skip
  p.add_argument('--name', required=True, help='of the run: a DNS label')
  p.add_argument('--image', help='made from launch/gke/Dockerfile')
  p.add_argument('--bucket', help='Cloud Storage, seen as /runs')
  p.add_argument('--type', choices=sorted(KINDS), help='of the chips')
  p.add_argument('--topology', help='of a slice: 4x4, or 2x2x4 of v4 and v5p')
  p.add_argument('--slices', type=int, default=1, help='joined by the network')
  p.add_argument('--spot', action='store_true', help='cheaper; taken away')
  p.add_argument('--restarts', type=int, default=10,
                 help='from the last checkpoint')  # fmt: skip
  p.add_argument('--account', default='default',
                 help='Kubernetes: who writes to the bucket')  # fmt: skip
  p.add_argument('--namespace', default='default')
  p.add_argument('--dry-run', action='store_true',
                 help='print every command and run none')  # fmt: skip
  return p


def manifest(asked: argparse.Namespace) -> str:
  """The JobSet of a run, as YAML."""
  missing = [f'--{k}' for k in NEEDED if not getattr(asked, k)]
  if missing:
    raise ValueError(f'a manifest wants {", ".join(missing)} too')
  if not re.fullmatch(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?', asked.name):
    raise ValueError(
      f'--name={asked.name}: up to 40 small letters, digits and dashes'
    )
  if not asked.arguments:
    raise ValueError('say what to run: -- --config=configs/ddpo.py:... ')
  hosts, chips = layout(asked.type, asked.topology)
  selector = {
    'cloud.google.com/gke-tpu-accelerator': KINDS[asked.type][0],
    'cloud.google.com/gke-tpu-topology': asked.topology,
  }
  if asked.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
  quoted = {k: json.dumps(getattr(asked, k)) for k in
            ('image', 'bucket', 'account')}  # fmt: skip
  return Template(TEMPLATE.read_text('utf-8')).substitute(
    quoted, name=asked.name, slices=asked.slices, restarts=asked.restarts,
    hosts=hosts, chips=chips, selector=json.dumps(selector),
    arguments=json.dumps(asked.arguments),
  )  # fmt: skip


def layout(kind: str, topology: str) -> tuple[int, int]:
  """(hosts, chips of each) of a slice."""
  sides = 3 if kind in ('v4', 'v5p') else 2
  if not re.fullmatch('x'.join([r'[1-9]\d*'] * sides), topology):
    raise ValueError(
      f'--topology={topology}: {kind} wants {sides} numbers, as '
      f'{"2x2x4" if sides == 3 else "4x4"}'
    )
  chips = math.prod(map(int, topology.split('x')))
  each = min(chips, KINDS[kind][1])
  if chips % each:
    raise ValueError(
      f'--topology={topology}: {chips} chips do not divide over hosts of {each}'
    )
  return chips // each, each


def kubectl(asked: argparse.Namespace, *args: str, given: str = '') -> int:
  command = ['kubectl', f'--namespace={asked.namespace}', *args]
  if asked.dry_run:
    print(shlex.join(command))
    return 0
  return subprocess.run(command, input=given, text=True, check=False).returncode


def render(asked: argparse.Namespace) -> int:
  print(manifest(asked), end='')
  return 0


def apply(asked: argparse.Namespace) -> int:
  text = manifest(asked)
  # A JobSet cannot be changed: one of that name is taken away before.
  code = delete(asked)
  if code:
    return code
  if asked.dry_run:
    print(text, end='')
  return kubectl(asked, 'create', '--filename=-', given=text)


def logs(asked: argparse.Namespace) -> int:
  """Of process 0: the first pod of the first slice."""
  chosen = (
    f'jobset.sigs.k8s.io/jobset-name={asked.name},'
    'jobset.sigs.k8s.io/job-index=0,'
    'batch.kubernetes.io/job-completion-index=0'
  )
  return kubectl(
    asked, 'logs', '--follow', '--container=train', f'--selector={chosen}',
    '--tail=-1',
  )  # fmt: skip


def status(asked: argparse.Namespace) -> int:
  chosen = f'--selector=jobset.sigs.k8s.io/jobset-name={asked.name}'
  return kubectl(asked, 'get', 'jobset,jobs,pods', chosen)


def delete(asked: argparse.Namespace) -> int:
  return kubectl(
    asked, 'delete', 'jobset', asked.name, '--ignore-not-found', '--wait'
  )


COMMANDS = {
  'render': render,
  'apply': apply,
  'logs': logs,
  'status': status,
  'delete': delete,
}

if __name__ == '__main__':
  main(sys.argv[1:])
