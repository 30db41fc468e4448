"""One command runs an experiment: the stages its config names, in order.

python -m rlhfv_jax.main --config=configs/ddpo.py[:presets] [--workdir=DIR]
                         [--config.KEY=VALUE ...]
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import config_flags

from rlhfv_jax import options, process, sharding, stages
from rlhfv_jax.checkpoint import CheckpointError
from rlhfv_jax.hosts.join import joined
from rlhfv_jax.train.nonfinite import NonFinite

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment: FILE[:preset,...]', lock_config=True
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything goes; runs/NAME-PRESETS by default.'
)

# What a person can mend, told in a sentence; anything else is a bug of ours
# and keeps its traceback.
EXPECTED = (ValueError, OSError, NonFinite, CheckpointError)


def workdir(flag: str | None, args: Sequence[str]) -> Path:
  """The folder of this run: named, or made of what was asked for."""
  if flag:
    return Path(flag)
  path, _, presets = flags.FLAGS['config'].config_filename.partition(':')
  set_here = [a.partition('config.')[2] for a in args if '--config.' in a]
  set_here = [a for a in set_here if not a.startswith('stages')]
  parts = [Path(path).stem, *presets.split(','), *set_here]
  return Path('runs') / re.sub(r'[^\w.,=-]', '_', '-'.join(filter(None, parts)))


def main(_) -> None:
  logging.set_verbosity(logging.WARNING)
  process.keep_memory()
  folder = workdir(WORKDIR.value, sys.argv)
  process.keep_programs(folder)
  try:
    with joined(os.environ.get('RLHFV_DISTRIBUTED', ''), expected=EXPECTED):
      mesh = sharding.make_mesh(CONFIG.value.mesh)
      with jax.set_mesh(mesh):
        stages.run(CONFIG.value, folder, mesh)
  except EXPECTED as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(1) from error


if __name__ == '__main__':
  options.run(main)
