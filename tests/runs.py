"""Commands run as a person runs them, and one whole small run to look at."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

ROOT = Path(__file__).parents[1]
MAIN = ['-m', 'rlhfv_jax.main', '--config=configs/ddpo.py:small']
# Tests, their workers and their runs share what they compile: it is most of
# their time. Who sets the variable shares it with another `pytest` too.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  PROGRAMS = tempfile.TemporaryDirectory(prefix='programs-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = PROGRAMS.name
ENV = os.environ | {
  'JAX_PLATFORMS': 'cpu', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
}  # fmt: skip


def start(*args, module=MAIN):
  return subprocess.Popen(
    [sys.executable, *module, *args], cwd=ROOT, env=ENV, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip


def run(*args, module=MAIN):
  process = start(*args, module=module)
  out, _ = process.communicate()
  return process.returncode, out


def bits(folder: Path) -> dict[str, bytes]:
  """Everything that is compared to the bit: parameters and answers."""
  found = {}
  for name in ('params', 'base/params', 'eyes/params', 'arms/sft/params'):
    leaves = jax.tree_util.tree_leaves_with_path(ocp.load(folder / name))
    for path, leaf in leaves:
      found[name + jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
  for path in sorted((folder / 'answers').glob('*.jsonl')):
    found[path.name] = path.read_bytes()
  return found
