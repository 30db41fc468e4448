"""One command runs an experiment: the stages its config names, in order.

python -m rlhfv_jax.main --config=configs/ddpo.py[:presets] [--workdir=DIR]
                         [--config.KEY=VALUE ...]
"""

import os
import sys
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import config_flags

from rlhfv_jax import experiment, host, options, sharding
from rlhfv_jax.checkpoint import CheckpointError
from rlhfv_jax.nonfinite import NonFinite

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment: FILE[:preset,...]', lock_config=True
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything goes; runs/NAME-PRESETS by default.'
)

# What a person can mend, told in a sentence; anything else is a bug of ours
# and keeps its traceback.
EXPECTED = (ValueError, OSError, NonFinite, CheckpointError)


def workdir(flag: str | None) -> Path:
  """The folder of this run: named, or made from the config and its presets."""
  if flag:
    return Path(flag)
  config = flags.FLAGS['config']
  path, _, presets = str(config.config_filename).partition(':')
  name = '-'.join([Path(path).stem, *filter(None, presets.split(','))])
  return Path('runs') / name


def main(_) -> None:
  logging.set_verbosity(logging.WARNING)
  host.keep_memory()
  if 'RLHFV_DISTRIBUTED' in os.environ:
    jax.distributed.initialize()
  folder = workdir(WORKDIR.value)
  jax.config.update('jax_compilation_cache_dir', str(folder / '.compiled'))
  try:
    mesh = sharding.make_mesh(CONFIG.value.mesh)
    with jax.set_mesh(mesh):
      experiment.run(CONFIG.value, folder, mesh)
  except EXPECTED as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(1) from error


if __name__ == '__main__':
  options.run(main)
