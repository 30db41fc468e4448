"""python -m rlhfv_jax.data.builders NAME: `tfds build` without TensorFlow.

The script `tfds` itself imports TensorFlow for its other commands. Where that
is installed, `tfds build rlhfv_jax/data/builders/NAME` does the same.
"""

import os
import sys
from pathlib import Path

from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils

HERE = Path(__file__).parent
NAMES = sorted(p.parent.name for p in HERE.glob('*/*_dataset_builder.py'))


def main(argv: list[str]) -> None:
  """Takes the arguments of `tfds build`; writes ArrayRecord."""
  if len(argv) < 2 or argv[1] in ('-h', '--help'):
    print(
      f'{__doc__}\nNAME is one of {", ".join(NAMES)}; then what tfds build '
      'takes: --data_dir=DIR --manual_dir=DIR --config=NAME ...'
    )
    return
  if argv[1] not in NAMES:
    print(
      f'error: no builder {argv[1]!r}: one of {", ".join(NAMES)}',
      file=sys.stderr,
    )
    raise SystemExit(2)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  flags = cli_utils.make_flags_parser(build.Args, description=__doc__)
  rest = ['--file_format=array_record', *argv[2:]]
  app.run(
    lambda args: args.execute(),
    argv=[argv[0], str(HERE / argv[1]), *rest],
    flags_parser=flags,
  )


if __name__ == '__main__':
  main(sys.argv)
