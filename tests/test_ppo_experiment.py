"""configs/ppo.py as a person runs it, small: from nothing to its report."""

import json
import signal
import time

import pytest
from runs import run, start

from configs import ppo
from rlhfv_jax import files


def module(presets):
  return ['-m', 'rlhfv_jax.main', f'--config=configs/ppo.py:{presets}']


@pytest.mark.slow
def test_the_whole_from_nothing_to_the_report(tmp_path):
  code, out = run(f'--workdir={tmp_path}', module=module('small'))
  assert code == 0, out
  results = files.read_json(tmp_path / 'results.json')
  assert list(results['models']) == ['base', 'ppo', 'ddpo', 'dpo_rankings']
  for name in ('params', 'ppo/metrics.jsonl', 'ppo/rollouts/metrics.jsonl',
               'ppo/rollouts/answers/rollout-0000.jsonl', 'reward/params',
               'ppo/rollouts/alarms.json', 'report.html'):  # fmt: skip
    assert (tmp_path / name).exists(), name
  first = files.read_lines(tmp_path / 'ppo/rollouts/metrics.jsonl')[0]
  assert first['objective/kl'] == pytest.approx(0, abs=1e-5)
  clock = time.monotonic()
  code, out = run(f'--workdir={tmp_path}', module=module('small'))
  assert code == 0, out
  assert time.monotonic() - clock < 60


@pytest.mark.slow
def test_killed_while_it_learns_it_ends_in_the_same_numbers(tmp_path):
  args = module('small,truth')
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  code, out = run(f'--workdir={whole}', module=args)
  assert code == 0, out
  for moment in ('2', '6', '10'):
    process = start(f'--workdir={parts}', module=args)
    while (
      process.poll() is None
      and not (parts / 'ppo/checkpoints' / moment).exists()
    ):
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  code, out = run(f'--workdir={parts}', module=args)
  assert code == 0, out
  same = lambda f: json.loads((f / 'results.json').read_text())['models']
  assert same(whole) == same(parts)
  log = lambda f: [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in files.read_lines(f / 'ppo/rollouts/metrics.jsonl')
  ]
  assert log(whole) == log(parts)


@pytest.mark.parametrize('presets, arg, says', [
  ('small,truth', '--config.ppo.reward.model=0', 'no reward to learn from'),
  ('small', '--config.ppo.judge=nobody', "judge = 'nobody'"),
  ('small,truth', '--config.ppo.kl_estimator=k4', "kl 'k4' is none of"),
  ('small,truth', '--config.ppo.rollout=12', 'no multiple of the batch'),
])  # fmt: skip
def test_a_config_that_cannot_run_says_why(tmp_path, presets, arg, says):
  more = [f'--config.ppo.reward.{part}=0'
          for part in ('no_end', 'length', 'correct')]  # fmt: skip
  stages = "--config.stages=('train',)"
  args = [arg, *(more if 'model' in arg else []), stages]
  code, out = run(f'--workdir={tmp_path}', *args, module=module(presets))
  assert code == 1
  assert says in out
  assert 'Traceback' not in out


def test_the_papers_recipe_has_its_numbers():
  c = ppo.get_config('paper')
  assert dict(c.ppo.reward) == {
    'model': 1.0, 'no_end': -8.0, 'length': -10.0, 'correct': 2.0, 'bias': 0.0
  }  # fmt: skip
  assert (c.ppo.kl, c.ppo.clip, c.ppo.value_clip) == (0.1, 0.2, 0.2)
  assert (c.ppo.rollout, c.train.batch, c.ppo.epochs) == (512, 256, 2)
  assert (c.train.lr, c.train.steps, c.ppo.value_coef) == (3e-5, 2248, 0.1)
  assert len(ppo.sweep()) == 8
