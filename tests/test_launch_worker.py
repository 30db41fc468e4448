"""A worker's script: a run is started once, and how it ended is known."""

import os
import subprocess
import time

from stand_in import ROOT


def test_a_worker_starts_a_run_once_and_knows_how_it_ended(tmp_path):
  home, python = tmp_path / 'home', tmp_path / 'home/rlhfv_jax/.venv/bin/python'
  python.parent.mkdir(parents=True)
  python.write_text(
    '#!/bin/bash\ntrap "exit 143" TERM\necho "$RLHFV_DISTRIBUTED" "$@"\n'
    'while sleep 0.05; do :; done\n'
  )
  python.chmod(0o755)

  def worker(*args):
    return subprocess.run(
      ['bash', ROOT / 'launch/tpu_worker.sh', *args], text=True, timeout=60,
      env=os.environ | {'HOME': str(home)}, capture_output=True, check=False,
    )  # fmt: skip

  def until(done):
    for _ in range(200):
      if done():
        return
      time.sleep(0.05)
    raise AssertionError('waited in vain')

  assert worker('ended').returncode == 1
  worker('start', '--x=a b')
  until((home / 'rlhfv.pid').exists)
  log, line = home / 'rlhfv.log', '1 -m rlhfv_jax.main --x=a b'
  until(lambda: line in log.read_text())
  assert worker('ended').stdout == ''
  assert 'runs already' in worker('start').stderr
  worker('stop')
  until((home / 'rlhfv.ended').exists)
  assert worker('ended').stdout == '143\n'
