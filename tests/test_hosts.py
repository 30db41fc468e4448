"""Many processes on this machine, over gloo: one run, one end, equal bits."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import ENV, MAIN

from rlhfv_jax import files

ROOT = Path(__file__).parents[1]
MANY = ['tests/many.py']
DEVICES = 8


def start(processes, *args, module=MANY, devices=DEVICES, each=None, cwd=ROOT):
  """The processes of a run; `each` changes (arguments, environment, folder)."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  found = []
  for p in range(processes):
    how = f'localhost:{port},{processes},{p}' if processes > 1 else ''
    env = ENV | {
      'PYTHONPATH': str(ROOT),
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'XLA_FLAGS': '--xla_force_host_platform_device_count='
      f'{devices // processes}',
    }  # fmt: skip
    line = [*module, how or '-', *args] if module is MANY else [*module, *args]
    if module is not MANY and how:
      env['RLHFV_DISTRIBUTED'] = how
    where = cwd
    if each:
      line, env, where = each(p, line, env, where)
    found.append(subprocess.Popen(
      [sys.executable, *line], cwd=where, env=env, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ))  # fmt: skip
  return found


def ends(processes, timeout=600):
  """[(code, output)] of all; none may hang."""
  try:
    said = [p.communicate(timeout=timeout)[0] for p in processes]
  finally:
    for p in processes:
      p.kill()
  return [(p.returncode, out) for p, out in zip(processes, said, strict=True)]


def run(*args, **options):
  found = ends(start(*args, **options))
  assert [code for code, _ in found] == [0] * len(found), found
  return [out for _, out in found]


def digest(out):
  return re.search(r'digest (\w+)', out)[1]


def losses(folder):
  rows = files.read_lines(folder / 'metrics.jsonl')
  assert len({r['step'] for r in rows if 'loss' in r}) == len(
    [r for r in rows if 'loss' in r]
  )
  return [r['loss'] for r in rows if 'loss' in r]


def until(done, timeout=120):
  for _ in range(timeout * 20):
    if done():
      return
    time.sleep(0.05)
  raise AssertionError('waited in vain')


def logged(folder, step):
  return lambda: len(files.read_lines(folder / 'metrics.jsonl')) >= step


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The run that all others must equal: one process with eight devices."""
  folder = tmp_path_factory.mktemp('alone')
  (out,) = run(1, str(folder), '12')
  return folder, digest(out)


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_end_in_the_same_losses_and_one_of_them_talks(
  tmp_path, alone, processes
):
  first, *others = run(processes, str(tmp_path), '12')
  np.testing.assert_allclose(losses(tmp_path), losses(alone[0]), rtol=1e-5)
  assert 'many: 100%' in first
  assert all('many' not in out and 'digest' not in out for out in others)
  # What two have saved one has to the bit, on eight devices and on one.
  for count, devices in ((1, 8), (1, 1)):
    copy = tmp_path.with_name(f'{tmp_path.name}-{devices}')
    shutil.copytree(tmp_path, copy)
    (copy / 'done.json').unlink()
    shutil.rmtree(copy / 'params')
    (out,) = run(count, str(copy), '12', devices=devices)
    assert digest(out) == digest(first)


def test_a_sigterm_to_one_saves_and_stops_all_and_any_number_goes_on(
  tmp_path, alone
):
  both = start(2, str(tmp_path), '12', '2')
  until(logged(tmp_path, 3))
  both[1].send_signal(signal.SIGTERM)
  found = ends(both)
  assert [code for code, _ in found] == [143, 143], found
  saved = int(re.search(r'saved at step (\d+)', found[0][1])[1])
  assert 4 <= saved < 12
  assert (tmp_path / f'checkpoints/{saved}').exists()
  run(1, str(tmp_path), '12')
  np.testing.assert_allclose(losses(tmp_path), losses(alone[0]), rtol=1e-5)


@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(tmp_path, victim):
  both = start(2, str(tmp_path), '500', '0.1')
  until(logged(tmp_path, 5))
  both[victim].kill()
  before = time.monotonic()
  found = ends(both)
  assert found[victim][0] == -signal.SIGKILL
  code, said = found[1 - victim]
  assert code not in (0, None) and time.monotonic() - before < 60
  if victim:  # when process 0 is gone it is JAX that says so
    assert re.search('process 1 of 2 .*goes on from there', said), said
  assert files.read_lines(tmp_path / 'metrics.jsonl')
  # The last good checkpoint is there, and the run goes on from it.
  (out,) = run(1, str(tmp_path), '12')
  assert digest(out)


def test_an_error_of_one_is_the_end_of_all(tmp_path):
  found = ends(start(2, str(tmp_path), '50', '0', '6'))
  assert [code for code, _ in found] == [1, 1]
  assert 'process 1: error: picture 7 is broken' in found[1][1]
  assert 'process 1 of 2 ended (error: picture 7 is broken' in found[0][1]


def test_processes_with_different_configs_are_refused(tmp_path):
  def other(p, line, env, cwd):
    return [*line, *['--config.loss.gamma=7'] * p], env, cwd

  found = ends(start(2, f'--workdir={tmp_path}/run', module=MAIN, each=other))
  for code, said in found:
    assert code == 1
    differ = 'loss.gamma is 7.0 there and 2.0'
    assert f'process 1 of 2 has another config than process 0: {differ}' in said
  assert not (tmp_path / 'run/config.json').exists()


def test_processes_with_different_code_are_refused(tmp_path):
  changed = tmp_path / 'code'
  for name in ('rlhfv_jax', 'configs'):
    shutil.copytree(ROOT / name, changed / name)
  with open(changed / 'rlhfv_jax/optim.py', 'a') as f:
    f.write('\n')

  def other(p, line, env, cwd):
    return line, env | {'PYTHONPATH': str(changed if p else ROOT)}, (
      changed if p else cwd
    )  # fmt: skip

  found = ends(start(2, f'--workdir={tmp_path}/run', module=MAIN, each=other))
  for code, said in found:
    assert code == 1 and 'another code than process 0: optim.py' in said, said


def test_processes_that_do_not_share_the_folder_are_refused(tmp_path):
  def apart(p, line, env, cwd):
    folder = tmp_path / str(p)
    folder.mkdir()
    return line, env, folder

  module = ['-m', 'rlhfv_jax.main', f'--config={ROOT}/configs/ddpo.py:small']
  found = ends(start(2, '--workdir=run', module=module, each=apart))
  assert [code for code, _ in found] == [1, 1]
  assert 'name a folder that all of them share' in found[1][1]


def same_losses(mine, theirs, stages):
  for stage in stages:
    np.testing.assert_allclose(
      losses(mine / stage), losses(theirs / stage), rtol=1e-4
    )


@pytest.mark.slow
def test_the_experiment_runs_on_two_processes(tmp_path, finished):
  """From nothing to the page; one of them talks."""
  first, other = run(2, f'--workdir={tmp_path}', module=MAIN, devices=2)
  assert 'report.html' in first and (tmp_path / 'report.html').exists()
  assert not re.search('(row|step|answer|batch)/s', other), other
  same_losses(tmp_path, finished[0], ('eyes', 'base'))
  found, single = (
    json.loads((folder / 'results.json').read_text())['models']
    for folder in (tmp_path, finished[0])
  )
  assert found.keys() == single.keys()


@pytest.mark.slow
def test_four_processes_learn_from_the_same_pairs_as_one(tmp_path, finished):
  folder = tmp_path / 'run'
  shutil.copytree(finished[0], folder)
  for name in ('reference', 'arms', 'answers', 'params', 'checkpoints', 'best'):
    shutil.rmtree(folder / name)
  for name in ('done.json', 'results.json', 'metrics.jsonl', 'report.html'):
    (folder / name).unlink()
  run(4, f'--workdir={folder}', module=MAIN, devices=4)
  same_losses(folder, finished[0], ('.', 'arms/dpo', 'arms/sft'))
  assert (folder / 'report.html').exists()


def test_weights_come_in_and_go_out_of_many_as_of_one(tmp_path):
  pytest.importorskip('torch')
  import checkpoints

  checkpoints.shards(tmp_path / 'theirs', checkpoints.state('hf'))
  # 67 words divide over no two devices.
  text = checkpoints.TEXT | {'vocab_size': 128}
  files.write_json(tmp_path / 'model.json', checkpoints.LLAVA | {'text': text})
  convert = dict(module=['-m', 'rlhfv_jax', 'convert'])
  for processes, name in ((1, 'one'), (2, 'two')):
    weights = tmp_path / f'{name}-weights'
    first, *others = run(
      processes, 'import', f'--from={tmp_path / "theirs"}', '--mesh=2,2,2',
      f'--model={tmp_path / "model.json"}', f'--to={weights}', **convert,
    )  # fmt: skip
    assert f'{weights}: ' in first
    assert all('parameters' not in out for out in others)
    run(processes, 'export', f'--from={weights}', f'--to={tmp_path / name}',
        '--mesh=2,2,2', **convert)  # fmt: skip
  names = sorted(p.name for p in (tmp_path / 'one').iterdir())
  assert 'model.safetensors' in names
  for name in names:
    one, two = (tmp_path / folder / name for folder in ('one', 'two'))
    assert one.read_bytes() == two.read_bytes(), name
