"""configs/reward.py, small: what a run leaves, again, and by one call."""

import math
import shutil
import time

import jax
import numpy as np
import pytest
from runs import run

from rlhfv_jax import files, options, reward, sharding
from rlhfv_jax.checkpoint import load_params
from rlhfv_jax.data import sources
from rlhfv_jax.report import rewards
from rlhfv_jax.stages import problem
from rlhfv_jax.stages import reward as stage

pytestmark = pytest.mark.slow
MODULE = ['-m', 'rlhfv_jax.main', '--config=configs/reward.py:small']


@pytest.fixture(scope='module')
def judged(tmp_path_factory):
  folder = tmp_path_factory.mktemp('reward') / 'small'
  code, out = run(f'--workdir={folder}', module=MODULE)
  assert code == 0, out
  return folder, out


def test_a_run_leaves_a_judge_its_ablation_and_what_they_said(judged):
  folder, out = judged
  results = files.read_json(folder / 'results.json')
  assert list(results['models']) == ['no facts', 'facts']
  for metrics in results['models'].values():
    both = (metrics[f'accuracy/{k}']['n'] for k in
            ('facts decide', 'no fact decides'))  # fmt: skip
    assert sum(both) == metrics['accuracy']['n'] == 16
    assert 0 <= metrics['calibration']['value'] <= 0.5
  for name in ('calibration.png', 'scores.png', 'report.html'):
    assert (folder / name).exists(), name
  page = (folder / 'report.html').read_text()
  assert 'The reward model, on held-out pairs' in page
  assert 'accuracy' in out and 'report.html' in out


def test_practice_starts_from_scores_of_zero_and_rankings_go_on(judged):
  for part in ('practice/spotting', 'reward', 'reward-no_facts'):
    first, *_, last = files.read_lines(judged[0] / part / 'metrics.jsonl')
    assert first['step'] == 0
    even = first['eval_loss/ranking'] == pytest.approx(math.log(2), abs=1e-6)
    assert even == part.startswith('practice')
    assert last['step'] == 6


def test_it_begins_where_practice_ended(judged):
  config = options.load('configs/reward.py:small')
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    s = problem.setup(config, judged[0], mesh)
    practised = load_params(judged[0] / 'practice/params', stage.like(s))
    before = problem.load(s, problem.base(s))
    begun = stage.begun(s, stage.start(s))
  same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
  assert same(begun, practised)
  assert np.abs(practised.pop('score_head')['weight']).max() > 0
  tower = 'vision_tower'  # stays as it is
  assert same(before.pop(tower), practised.pop(tower))
  assert not same(before, practised)


def test_what_results_say_is_what_the_pairs_say(judged):
  folder, _ = judged
  rows = rewards.read(folder)
  assert set(rows) == {'reward', 'reward-no_facts'}
  right = [row['chosen'] > row['rejected'] for row in rows['reward']]
  told = files.read_json(folder / 'results.json')['models']['facts']
  assert told['accuracy']['value'] == pytest.approx(np.mean(right))


@pytest.mark.parametrize('part', ['reward', 'reward-no_facts'])
def test_one_call_gives_the_scores_of_the_run(judged, part):
  folder, _ = judged
  pairs = sources.read(folder / 'rankings/test.parquet')
  judge = reward.load(folder / part, sharding.make_mesh(), batch=8)
  rows = {row['id']: row for row in rewards.read(folder)[part]}
  some = [pairs[i] for i in range(6)]
  for c, kind in enumerate(('chosen', 'rejected')):
    found = judge(
      [one.image for one in some], [one.turns[-1][1] for one in some],
      [one.answers[c] for one in some], [one.facts for one in some],
    )  # fmt: skip
    wanted = [rows[one.id][kind] for one in some]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_repeat_is_done_at_once(judged):
  folder, _ = judged
  before = (folder / 'results.json').read_bytes()
  clock = time.monotonic()
  code, out = run(f'--workdir={folder}', module=MODULE)
  assert code == 0, out
  assert time.monotonic() - clock < 30
  assert (folder / 'results.json').read_bytes() == before


def test_adapters_and_a_head_on_a_base_that_stays(judged, tmp_path):
  folder = tmp_path / 'run'
  for name in ('eyes', 'base', 'rankings'):
    shutil.copytree(judged[0] / name, folder / name)
  code, out = run(  # of accuracies the first, of equal scores, is the least
    f'--workdir={folder}',
    '--config.reward.train.best=eval_rewards/accuracies:max',
    module=['-m', 'rlhfv_jax.main', '--config=configs/reward.py:small,lora'],
  )
  assert code == 0, out
  assert (folder / 'reward/adapters.json').exists()
  rows = rewards.read(folder)['reward']
  assert np.ptp([row['chosen'] for row in rows]) > 0
  one = sources.read(folder / 'rankings/test.parquet')[0]
  judge = reward.load(folder / 'reward', sharding.make_mesh(), batch=8)
  told = reward.score(
    judge, one.image, one.turns[-1][1], one.answers[0], one.facts
  )
  (row,) = [row for row in rows if row['id'] == one.id]
  assert told == pytest.approx(row['chosen'], rel=1e-4, abs=1e-5)
