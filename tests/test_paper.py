"""The papers' experiments: what is shared, what a verdict says, resuming."""

import math

import numpy as np
import pytest
from runs import ENV, run
from scipy import stats

from configs import paper
from configs.papers import arms as of
from launch import experiment
from rlhfv_jax.report import seeds
from rlhfv_jax.stages import provenance

SWEEP = ['-m', 'launch.sweep']


def test_every_test_names_arms_that_are_there():
  for name, one in paper.experiments().items():
    for test in one['tests']:
      for side in (test['less'], test['than']):
        names = {side} if isinstance(side, str) else set(side)
        assert names and names <= set(one['arms']), (name, test)
    assert one['claim'] and one['published']['source']
  for group in paper.GROUPS.values():
    assert set(group) <= set(paper.experiments())


@pytest.mark.parametrize('small', ['', ',small'])
@pytest.mark.parametrize('name', paper.experiments())
def test_every_arm_fits_the_config(name, small):
  config = paper.get_config(name + small).lock()
  for arm in paper.chosen(name + small)[name]['arms'].values():
    assert experiment.of_arm(config, arm, 3).seed == 3


def test_an_unknown_experiment_is_told_what_there_is():
  with pytest.raises(ValueError, match="no experiment 'table9'.*table3"):
    paper.get_config('table9')


def test_arms_share_what_agrees_and_nothing_else(tmp_path):
  config = paper.get_config('figure2').lock()
  homes = {
    key: experiment.home(experiment.of_arm(config, arm, seed), tmp_path)
    for key, arm, seed in (
      ('ddpo', {}, 0), ('dpo', of.DPO, 0), ('other seed', {}, 1),
      ('few', of.corrections(200), 0),
    )
  }  # fmt: skip
  assert homes['ddpo'] == homes['dpo']
  at = lambda key, stage: (homes[key] / stage).resolve()
  assert at('ddpo', 'base') == at('few', 'base')
  assert at('ddpo', 'feedback') != at('few', 'feedback')
  assert at('ddpo', 'eyes') != at('other seed', 'eyes')


def test_reward_models_share_practice_where_they_are_asked_alike(tmp_path):
  config = paper.get_config('factrlhf').lock()
  at = {
    key: experiment.home(experiment.of_arm(config, {'reward': of}, 0), tmp_path)
    for key, of in (
      ('facts', {}), ('none', {'facts': False}),
      ('asked', {'prompt': {'question': '{facts}what is there?'}}),
    )
  }  # fmt: skip
  found = {
    stage: {key: (home / stage).resolve() for key, home in at.items()}
    for stage in ('practice', 'reward')
  }
  assert len(set(found['reward'].values())) == 3
  assert found['practice']['facts'] == found['practice']['none']
  assert found['practice']['facts'] != found['practice']['asked']


def test_tables_share_arms():
  config = paper.get_config('core').lock()
  told = lambda arm: provenance.digest(
    {k: provenance.plain(experiment.of_arm(config, arm, 0))[k]
     for k in experiment.told(config)}
  )  # fmt: skip
  every = paper.experiments()
  assert told(every['table1']['arms']['ddpo']) == told(
    every['table3']['arms']['ddpo']
  )
  assert told(every['table3']['arms']['ddpo']) != told(
    every['table3']['arms']['dpo']
  )


def test_the_paired_test_is_students():
  rng = np.random.default_rng(0)
  for n in (2, 3, 8):
    one, other = rng.normal(size=(2, n))
    ours, theirs = seeds.paired(one, other), stats.ttest_rel(one, other)
    low, high = theirs.confidence_interval(0.95)
    assert math.isclose(ours['p'], theirs.pvalue, rel_tol=1e-9)
    assert np.allclose([ours['low'], ours['high']], [low, high], rtol=1e-9)


@pytest.mark.parametrize(
  'values, says',
  [
    ([(0.1, 0.3), (0.12, 0.3), (0.11, 0.32)], 'reproduced'),
    ([(0.3, 0.1), (0.3, 0.12), (0.32, 0.11)], 'the opposite'),
    ([(0.1, 0.3), (0.3, 0.1), (0.2, 0.21)], 'not reproduced here'),
    ([(0.1, 0.3)], 'not tested'),
  ],
)
def test_a_verdict_has_four_outcomes(values, says):
  rows = [
    {'arm': arm, 'seed': seed, 'hallucination': value}
    for seed, pair in enumerate(values)
    for arm, value in zip(('a', 'b'), pair, strict=True)
  ]
  test = of.less('hallucination', 'a', 'b', 'a does more')
  found = seeds.verdict(test, rows)
  assert found['verdict'] == says
  assert f'**{says}**' in seeds.said(found)


def test_seeds_that_lack_an_arm_are_not_compared():
  rows = [{'arm': 'a', 'seed': s, 'vqa': 0.5} for s in range(3)]
  rows += [{'arm': 'b', 'seed': s, 'vqa': 0.5 + s} for s in range(2)]
  found = seeds.verdict(of.less('vqa', 'a', 'b', 'x'), rows)
  assert found['n'] == 2


def test_commands_are_printed_for_a_queue():
  config = '--config=configs/paper.py:figure2,small'
  code, out = run(config, '--print', '--seeds=0,1', '--through=launch/tpu_vm.sh'
                  ' run --name=n --zone=z --', module=SWEEP)  # fmt: skip
  lines = out.strip().splitlines()
  assert code == 0 and len(lines) == len(set(lines)) == 24
  assert all(line.startswith('launch/tpu_vm.sh run') for line in lines)
  assert sum("'rankings'" in line for line in lines) == 8


@pytest.mark.slow
def test_a_table_runs_resumes_and_survives_a_bad_arm(tmp_path, monkeypatch):
  monkeypatch.setitem(ENV, 'JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  flags = ['--config=configs/paper.py:table1,small', '--seeds=1',
           f'--workdir={tmp_path}']  # fmt: skip
  code, out = run(*flags, module=SWEEP)
  assert code == 0, out
  told, rows = tmp_path / 'table1.md', tmp_path / 'table1.csv'
  text, lines = told.read_text(), rows.read_text().splitlines()
  tests = len(paper.experiments()['table1']['tests'])
  assert text.count('**not tested**, 1 seeds') == tests
  assert 'LLaVA-RLHF' in text and len(lines) == 1 + 4
  # A base, feedback and a reward model, for whoever needs them.
  for stage in ('base', 'feedback', 'reward'):
    made = [p for p in tmp_path.glob(f'stages/{stage}-*') if any(p.iterdir())]
    assert len(made) == 1, stage
  trained = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('done.json')}
  assert len(list(tmp_path.glob('points/*/done.json'))) == 3
  # What one arm scored is broken: it fails alone.
  bad = sorted((tmp_path / 'measured').glob('arm-*.json'))[0]
  bad.write_text('{')
  code, out = run(*flags, module=SWEEP)
  assert code != 0 and out.count('failed: table1: ') == 1, out
  left = rows.read_text().splitlines()
  assert len(left) == len(lines) - 1 and set(left) < set(lines)
  # Without it, it is measured again, and nothing else is done again.
  bad.unlink()
  code, out = run(*flags, module=SWEEP)
  assert code == 0 and told.read_text() == text
  assert trained == {p: p.stat().st_mtime_ns for p in trained}
