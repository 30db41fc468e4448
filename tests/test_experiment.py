"""The whole loop, small: what a run leaves, repeated, killed and resumed."""

import json
import math
import shutil
import signal
import time
from pathlib import Path

import pytest
from runs import bits, run, start

from rlhfv_jax import files


def test_a_run_leaves_what_the_design_says(finished):
  folder, out = finished
  for name in ('config.json', 'metrics.jsonl', 'checkpoints', 'results.json',
               'report.html', 'reference/train', 'answers/base.jsonl',
               'answers/ddpo.jsonl', 'tensorboard'):  # fmt: skip
    assert (folder / name).exists(), name
  results = files.read_json(folder / 'results.json')
  assert set(results['models']) == {'base', 'ddpo', 'dpo', 'sft'}
  for metrics in results['models'].values():
    for name in ('hallucination', 'coverage', 'vqa', 'unseen/hallucination'):
      found = metrics[name]
      assert found['n'] > 0
      assert found['low'] <= found['value'] <= found['high']
  assert results['data']['n'] == 32
  assert 'report.html' in out


def test_the_first_loss_is_ln_2(finished):
  folder, _ = finished
  for path in (folder, folder / 'arms/dpo'):
    first = files.read_lines(path / 'metrics.jsonl')[0]
    assert first['step'] == 0
    assert first['eval_loss/dpo'] == pytest.approx(math.log(2), abs=1e-6)


def test_the_split_margins_add_up_in_the_log(finished):
  for row in files.read_lines(finished[0] / 'metrics.jsonl'):
    if 'rewards/margins' in row:
      parts = (
        row['rewards/margins_corrected'] + row['rewards/margins_unchanged']
      )
      assert row['rewards/margins'] == pytest.approx(parts, abs=1e-4)


def test_the_repeat_is_done_at_once_and_changes_nothing(finished):
  folder, _ = finished
  before = bits(folder), (folder / 'results.json').read_bytes()
  clock = time.monotonic()
  code, out = run(f'--workdir={folder}')
  assert code == 0, out
  assert time.monotonic() - clock < 30
  assert (bits(folder), (folder / 'results.json').read_bytes()) == before


def test_another_config_in_that_workdir_is_an_error(finished):
  code, out = run(f'--workdir={finished[0]}', '--config.loss.gamma=1')
  assert code == 1
  assert 'loss.gamma = 1.0 here and 2.0 there' in out
  assert 'Traceback' not in out


def test_a_reference_of_another_model_is_an_error(finished, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(finished[0], folder)
  shutil.rmtree(folder / 'params')
  (folder / 'done.json').unlink()
  path = folder / 'reference/train/fingerprint.json'
  files.write_json(path, files.read_json(path) | {'parameters': 'other'})
  code, out = run(f'--workdir={folder}')
  assert code == 1
  assert 'parameters is' in out and 'other there' in out


def test_a_truncated_shard_of_the_reference_names_itself(finished, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(finished[0], folder)
  (folder / 'done.json').unlink()
  shard = next((folder / 'reference/train').glob('shard-*.npz'))
  shard.write_bytes(shard.read_bytes()[:100])
  code, out = run(f'--workdir={folder}')
  assert code == 1
  assert shard.name in out and 'delete it' in out
  shard.unlink()
  code, out = run(f'--workdir={folder}')
  assert code == 0, out
  assert bits(folder) == bits(finished[0])


@pytest.mark.parametrize('arg, says', [
  ('--config.mesh=(3,1,1)', 'takes 3 devices and 1 are here'),
  ('--config.model.text.vocab_size=16', 'tokens: raise it'),
  ("--config.stages=('bas',)", "no stage 'bas'"),
  ('--config.train.schedule=cosin', 'choose one of'),
])  # fmt: skip
def test_a_config_that_cannot_run_says_why(tmp_path, arg, says, finished):
  if 'schedule' in arg:  # known only when the stage is reached
    shutil.copytree(finished[0], tmp_path / 'run')
    (tmp_path / 'run/done.json').unlink()
    (tmp_path / 'run/config.json').unlink()
  code, out = run(f'--workdir={tmp_path / "run"}', arg)
  assert code == 1
  assert says in out
  assert 'Traceback' not in out


SWEEP = ['-m', 'launch.sweep', '--config=configs/ddpo.py:small']


def test_a_sweep_prints_a_command_a_point():
  code, out = run('--print', module=SWEEP)
  lines = out.strip().splitlines()
  assert code == 0 and len(lines) == 12
  assert all('--config.loss.gamma=' in line for line in lines)
  assert len(set(lines)) == 12


@pytest.mark.slow
def test_a_grid_of_twelve_is_one_compilation(finished, tmp_path):
  folder = tmp_path / 'sweep'
  shutil.copytree(finished[0], folder)
  (folder / 'config.json').unlink()
  code, out = run(f'--workdir={folder}', module=SWEEP)
  assert code == 0, out
  assert '12 points' in out and 'the step was compiled 1 time' in out
  table = (folder / 'sweep.csv').read_text().splitlines()
  assert len(table) == 13
  assert (folder / 'sweep.md').exists() and list(folder.glob('*.png'))


def last(folder: Path, *names: str) -> bool:
  return any(list(folder.glob(name)) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize('tower', ['small', 'small,llava'])
def test_killed_in_every_stage_it_ends_in_the_same_bits(tmp_path, tower):
  module = ['-m', 'rlhfv_jax.main', f'--config=configs/ddpo.py:{tower}']
  code, out = run(f'--workdir={tmp_path / "whole"}', module=module)
  assert code == 0, out
  folder = tmp_path / 'parts'
  moments = [
    'base/train.parquet', 'eyes/checkpoints/2', 'base/checkpoints/4',
    'base/checkpoints/8', 'feedback/answers-train-000.jsonl',
    'feedback/train.parquet', 'reference/train/shard-*', 'checkpoints/2',
    'arms/dpo/checkpoints/2', 'arms/sft/checkpoints/4', 'answers/base.jsonl',
    'answers/dpo*.jsonl', 'results.json',
  ]  # fmt: skip
  killed = 0
  for moment in moments:
    process = start(f'--workdir={folder}', module=module)
    while process.poll() is None and not last(folder, moment):
      time.sleep(0.002)
    if process.poll() is None:
      process.send_signal(signal.SIGKILL)
      killed += 1
    process.communicate()
  assert killed >= len(moments) - 3
  code, out = run(f'--workdir={folder}', module=module)
  assert code == 0, out
  whole = bits(tmp_path / 'whole')
  assert len(whole) > 10
  assert bits(folder) == whole
  same = lambda f: json.loads((f / 'results.json').read_text())['models']
  assert same(folder) == same(tmp_path / 'whole')
