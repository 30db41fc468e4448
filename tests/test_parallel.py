"""Worker processes begin with what they need, and nothing else."""

import subprocess
import sys

SCRIPT = """
import sys
from rlhfv_jax.data import parallel

print('begun as', __name__, flush=True)

def square(numbers):
  return [n * n for n in numbers], '__mp_main__' in sys.modules

if __name__ == '__main__':
  parallel.WORTH = 1
  offset = 1
  work = lambda numbers: (square(numbers), offset)
  found = list(parallel.over(work, 7, 3, 2))
  assert [start for start, _ in found] == [0, 3, 6], found
  assert [row for _, ((rows, _), _) in found for row in rows] == [
    n * n for n in range(7)
  ], found
  assert sys.modules['__main__'].square is square
"""


def test_workers_do_not_run_the_script_that_started_them(tmp_path):
  """Of a training run that would be seconds of imports in each of them."""
  (tmp_path / 'script.py').write_text(SCRIPT)
  ran = subprocess.run(
    [sys.executable, tmp_path / 'script.py'], capture_output=True, text=True
  )
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout == 'begun as __main__\n'
