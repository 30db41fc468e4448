"""Rollouts: fresh ones change nothing, padding never counts, runs resume."""

import functools

import jax
import numpy as np
import pytest

from configs import ppo as experiment
from rlhfv_jax import files, rollout, sharding
from rlhfv_jax.checkpoint import save_params
from rlhfv_jax.data.example import Example
from rlhfv_jax.objectives import ppo as maths
from rlhfv_jax.rollout import prompts as asking
from rlhfv_jax.rollout import trees
from rlhfv_jax.stages import ppo, problem

AUTO = jax.sharding.AxisType.Auto


@functools.cache
def mesh():
  return jax.make_mesh(
    (1, 1, 1), sharding.AXES, devices=jax.devices()[:1], axis_types=(AUTO,) * 3
  )


def config(presets='small,truth', **changes):
  c = experiment.get_config(presets)
  c.model.text.update({'width': 16, 'mlp': 16, 'depth': 1})
  c.model.vision.update({'width': 16, 'mlp': 16, 'depth': 1})
  c.ppo.update({'count': 24, 'rollout': 8, 'max_new': 6, 'slots': 8})
  c.ppo.update({'score_batch': 8, 'max_prompt': 40})
  c.train.update({'batch': 4, 'steps': 8, 'lr': 1e-2, 'save_every': 1})
  c.update_from_flattened_dict(changes)
  return c.lock()


def setup(folder, c):
  """A workdir whose base was not trained."""
  s = problem.setup(c, folder, mesh())
  if not (folder / 'base').exists():
    save_params(folder / 'base/params', problem.fresh(s))
  return s


class Stop(Exception):
  pass


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(folder, seen): a run, and every batch with what the step said of it."""
  folder = tmp_path_factory.mktemp('ppo')
  with jax.set_mesh(mesh()):
    s, seen = setup(folder, config()), []
    step = ppo.train.make_train_step

    def spied(*args, **options):
      inner = step(*args, **options)

      def run(state, batch, hyper):
        state, stats = inner(state, batch, hyper)
        seen.append((jax.device_get(dict(batch)), jax.device_get(stats)))
        return state, stats

      return run

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(ppo.train, 'make_train_step', spied)
      ppo.learn(s, s.config, folder, 'ppo')
  return folder, seen


def log(folder):
  """The rollouts' numbers without the clock."""
  rows = files.read_lines(folder / 'ppo/rollouts/metrics.jsonl')
  return [
    {k: v for k, v in row.items() if not k.startswith('time/')} for row in rows
  ]


def test_a_fresh_rollout_has_ratio_1_and_no_kl(run):
  folder, seen = run
  first = log(folder)[0]
  assert first['step'] == 1
  assert abs(first['objective/kl']) <= 1e-5
  for _, stats in seen[:1]:
    assert stats['ppo/policy/ratio'].value() == pytest.approx(1, abs=1e-5)
    assert stats['ppo/policy/approx_kl'].value() == pytest.approx(0, abs=1e-9)
    assert stats['ppo/policy/clipfrac'].value() == 0
  assert abs(log(folder)[1]['objective/kl']) > 1e-4  # and then it learns


def test_each_answer_is_trained_on_once_an_epoch(run):
  _, seen = run
  steps = [set(batch['index'].tolist()) for batch, _ in seen]
  assert len(seen) == 8
  for k in (0, 4):  # two rollouts, each of two epochs of two batches
    assert steps[k] | steps[k + 1] == steps[k + 2] | steps[k + 3]
    assert len(steps[k] | steps[k + 1]) == 8
  assert not (steps[0] | steps[1]) & (steps[4] | steps[5])


def test_what_is_trained_on_stands_at_the_words_of_answers(run):
  _, seen = run
  for batch, _ in seen:
    on = batch['roles'][:, 0] > 0
    assert on.any(axis=1).all()
    for name in ('advantages', 'returns', 'old_logps'):
      assert not batch[name][~on].any()
    for row, (length, _) in zip(on, batch['lengths'], strict=True):
      slots = np.flatnonzero(row)
      assert slots[-1] == length - 1  # up to the end, without a gap
      assert slots[-1] - slots[0] == len(slots) - 1


def test_advantages_of_a_rollout_are_white(run):
  _, seen = run
  pairs = [batch for batch, _ in seen[:2]]
  on = np.concatenate([b['roles'][:, 0] > 0 for b in pairs])
  some = np.concatenate([b['advantages'] for b in pairs])[on]
  assert some.mean() == pytest.approx(0, abs=1e-5)
  assert some.std() == pytest.approx(1, abs=1e-4)


def test_the_log_has_the_numbers_people_know(run):
  folder, _ = run
  names = set(log(folder)[0]) | set(files.read_lines(
    folder / 'ppo/metrics.jsonl')[0])  # fmt: skip
  assert names >= {
    'objective/kl', 'objective/rewards', 'objective/scores',
    'objective/entropy', 'objective/non_score_reward',
    'ppo/policy/clipfrac', 'ppo/policy/approx_kl', 'val/error', 'val/clipfrac',
    'answers/hallucination', 'answers/ended', 'loss', 'grad_norm',
  }  # fmt: skip
  told = files.read_lines(folder / 'ppo/rollouts/answers/rollout-0000.jsonl')
  assert len(told) == 2
  assert {'question', 'answer', 'rewards', 'model', 'length'} <= set(told[0])
  rows = files.read_lines(folder / 'ppo/rollouts/metrics.jsonl')
  assert 0 < rows[1]['time/share_generating'] < 1


def leaves(folder, s):
  found = problem.load(s, folder / 'params')
  return [np.asarray(x) for x in jax.tree.leaves(found)]


def test_an_interrupted_run_ends_in_the_same_bits(run, tmp_path):
  whole, _ = run
  with jax.set_mesh(mesh()):
    s = setup(tmp_path, config())
    for allowed in (3, 1, 1):  # within a rollout, at its end, behind the next
      with pytest.MonkeyPatch.context() as patch:
        some, calls = rollout.batch, []

        def stop(*args, some=some, calls=calls, allowed=allowed):
          calls.append(1)
          if len(calls) > allowed:
            raise Stop
          return some(*args)

        patch.setattr(rollout, 'batch', stop)
        with pytest.raises(Stop):
          ppo.learn(s, s.config, tmp_path, 'ppo')
    ppo.learn(s, s.config, tmp_path, 'ppo')
    assert log(tmp_path) == log(whole)
    for a, b in zip(leaves(whole, s), leaves(tmp_path, s), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('presets, changes', [
  ('small,truth', {'ppo.form': 'original', 'ppo.rule': 'original'}),
  ('small,truth', {'ppo.shared': False, 'ppo.kl_rate': 0.1}),
  ('small,truth,lora', {}),
])  # fmt: skip
def test_other_ways_to_run_it(tmp_path, presets, changes):
  with jax.set_mesh(mesh()):
    c = config(presets, **{'train.steps': 4} | changes)
    s = setup(tmp_path, c)
    ppo.learn(s, c, tmp_path, 'ppo')
    assert log(tmp_path)[0]['objective/kl'] == pytest.approx(0, abs=1e-5)
    moved = problem.load(s, tmp_path / 'params')
    assert jax.tree.structure(moved).num_leaves >= 10
    if 'lora' in presets:
      assert (tmp_path / 'adapters.json').exists()


def test_rewards_that_are_not_finite_count_nothing(tmp_path, capsys):
  """A run in which an answer cannot be judged: named, and no NaN anywhere."""
  with jax.set_mesh(mesh()):
    c = config(**{'train.steps': 2})
    s = setup(tmp_path, c)

    def judge(images, questions, answers, facts):
      scores = np.ones(len(answers), np.float32)
      scores[2] = np.nan
      return scores

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(ppo.judging, 'judge', lambda s, source: judge)
      ppo.learn(s, c, tmp_path, 'ppo')
    assert '1 of 8 answers are not finite' in capsys.readouterr().err
    (row,) = log(tmp_path)
    assert row['objective/unjudged'] == 1
    assert np.isfinite(list(row.values())).all()


def test_a_prompt_that_is_too_long_goes_with_its_picture_and_facts(tmp_path):
  with jax.set_mesh(mesh()):
    s = setup(tmp_path, config())
    source = list(ppo.source(s))[:6]
    long = 'what is at the top left? ' * 30
    source[2] = Example('long', source[2].image, (('user', long),))
    read = lambda limit: asking.read(
      source, s.tokenizer, problem.template(s), model=s.model, image_size=96,
      image_policy='squash', limit=limit, max_new=6,
    )  # fmt: skip
    found = read(40)
    assert [r.id for r in found.rows.rejected] == ['long']
    assert found.rows.reasons['too long'] == 1
    order = [asking.drawn(found, k, size=5, seed=0) for k in range(2)]
    for index in order:
      assert sorted(index) == [0, 1, 3, 4, 5]
      shown = asking.shown(found, index)['images']
      for place, i in enumerate(index):
        assert found.source[i].id == found.rows.ids[i]
        np.testing.assert_array_equal(shown[place], found.pictures[i])
    assert order[0].tolist() != order[1].tolist()
    with pytest.raises(ValueError, match='5 prompts are fewer than the 6'):
      asking.drawn(found, 0, size=6, seed=0)
    with pytest.raises(ValueError, match='pass text.max_length 192'):
      read(1000)


def test_policy_and_value_share_what_is_frozen():
  rules = (('eyes.*', 'frozen'), ('.*', 'trained'))
  one = {'eyes': {'kernel': np.ones(3)}, 'text': {'kernel': np.zeros(2)}}
  two = {'eyes': {'kernel': np.ones(3)}, 'text': {'kernel': np.full(2, 7.0)},
         'score_head': {'weight': np.zeros(2)}}  # fmt: skip
  tree = trees.together(one, two, rules)
  assert set(tree['base']) == {'eyes'} and set(tree['policy']) == {'text'}
  same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  same(trees.policy(tree), one)
  same(trees.value(tree), two)
  two['eyes']['kernel'] = np.zeros(3)
  with pytest.raises(ValueError, match='another base each: eyes/kernel'):
    trees.together(one, two, rules)


def test_the_way_of_a_run_is_checked_early():
  way = dict(
    size=8, max_new=6, form='sound', kl='k1', gamma=1.0, lam=1.0,
    normalize=True, rule='sound', seed=0, ends=(2,),
    terms=rollout.reward.Terms(1.0, 0.0, 0.0, 0.0),
  )  # fmt: skip
  rollout.Way(**way)
  for name in ('form', 'kl', 'rule'):
    with pytest.raises(ValueError, match=f'{name} .k9. is none of'):
      rollout.Way(**way | {name: 'k9'})
  assert set(maths.KL) == {'k1', 'k2', 'k3'}
