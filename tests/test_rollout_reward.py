"""Rewards of answers: the parts, the rules, what is named and what alarms."""

import numpy as np
import pytest

from rlhfv_jax.playroom.language import describe
from rlhfv_jax.playroom.prompts import prompts, worth
from rlhfv_jax.playroom.scene import World, sample
from rlhfv_jax.rollout import alarms, reward, symbolic

PAPER = reward.Terms(model=1.0, no_end=-8.0, length=-10.0, correct=2.0)


def of(terms, **changes):
  x = dict(
    scores=[0.5, -0.5], ended=[True, False], share=[0.1, 1.0],
    length_bonus=[1.0, -0.5], correct=[1.0, -0.5],
  )  # fmt: skip
  x = {name: np.array(value) for name, value in (x | changes).items()}
  return reward.parts(terms, x.pop('scores'), **x)


def test_the_reward_is_the_papers_sum():
  found = of(PAPER)
  np.testing.assert_allclose(
    found['rewards'],
    [0.5 - 10 * 0.1 + 2.0, -0.5 - 8.0 + 0.5 * 10 - 2 * 0.5],
    rtol=1e-6,
  )
  assert found['no_end'].tolist() == [0, -8]
  np.testing.assert_allclose(found['length'], [-1.0, 5.0])


def test_no_reward_at_all_is_an_error():
  with pytest.raises(ValueError, match='no reward to learn from'):
    reward.Terms(model=0.0, no_end=0.0, length=0.0, correct=0.0)


def test_a_model_that_weighs_nothing_is_not_asked_for_numbers():
  found = of(reward.Terms(0.0, 0.0, 0.0, 2.0), scores=[np.nan, 0.0])
  assert found['rewards'].tolist() == [2.0, -1.0]


@pytest.mark.parametrize('rule, kind, text, is_worth', [
  ('original', 2, 'A. It is red', 1), ('original', 3, 'A. It is red', 0),
  ('original', 5, 'so the correct option is D.', 1),
  ('original', 6, 'No, there is none', 0.5), ('original', 6, 'Yes', -0.5),
  ('original', 6, 'None', 0.5), ('original', 7, 'Yes', 0),
  ('original', 7, 'No', 0), ('original', 1, 'Yes', 0),
  ('sound', 7, 'yes, there is', 0.5), ('sound', 7, 'No.', -0.5),
  ('sound', 6, 'no', 0.5), ('sound', 6, 'Nothing', 0), ('sound', 6, '', 0),
  ('sound', 4, 'C. because', 1), ('sound', 1, 'C. because', 0),
])  # fmt: skip
def test_what_a_rule_finds_right(rule, kind, text, is_worth):
  assert symbolic.RULES[rule]({'caption_type': kind}, text) == is_worth


def test_an_answer_that_is_known_is_checked_word_by_word():
  assert symbolic.sound({'answer': 'two'}, 'Two.') == 1
  assert symbolic.sound({'answer': 'two'}, 'three') == 0


def test_rewards_that_are_not_finite_are_named(capsys):
  scores = np.array([0.5, np.nan, 1.0, -np.inf])
  fine = reward.judged(scores, ['a', 'b', 'c', 'd'])
  assert fine.tolist() == [True, False, True, False]
  said = capsys.readouterr().err
  assert 'b (nan)' in said and 'd (-inf)' in said and '2 of 4' in said
  with pytest.raises(ValueError, match=r'no answer of 1 .*e \(nan\)'):
    reward.judged(np.array([np.nan]), ['e'])


def test_truth_likes_true_claims_and_dislikes_wrong_ones():
  scene = sample(World(), 'train', index=0)
  whole = ' '.join(describe(group) for group in scene.groups)
  assert worth(scene, whole) == 1
  assert worth(scene, '') == 0
  first = describe(scene.groups[0])
  absent = next(k for k in ('kite', 'umbrella') if k not in scene.by_kind)
  some = worth(scene, first)
  assert 0 < some <= 1
  assert worth(scene, f'{first} there is a {absent}.') < some


def test_prompts_of_the_playroom():
  rows = list(prompts(World(), 'train', 40, closed=0.25))
  closed = [row for row in rows if row['extra']]
  assert 3 <= len(closed) <= 20
  assert all(row['turns'][-1][1].endswith(('.', '?')) for row in rows)
  again = list(prompts(World(), 'train', 2, closed=0.25, start=2_000_038))
  assert again == rows[-2:]


def numbers(**changes):
  return {
    'objective/rewards': 0.0, 'objective/kl': 1.0, 'answers/distinct': 0.9,
    'answers/empty': 0.0, 'answers/ended': 1.0, 'answers/hallucination': 0.5,
  } | {k.replace('_', '/', 1): v for k, v in changes.items()}  # fmt: skip


@pytest.mark.parametrize('name, bad', [
  ('KL runs away', {'objective_kl': 31.0}),
  ('answers alike', {'answers_distinct': 0.2}),
  ('empty answers', {'answers_empty': 0.6}),
  ('endless answers', {'answers_ended': 0.4}),
])  # fmt: skip
def test_alarms_are_raised_once_until_they_are_over(name, bad):
  rows = [numbers(), numbers(**bad), numbers(**bad), numbers(), numbers(**bad)]
  rows = [{'step': 8 * i} | row for i, row in enumerate(rows)]
  found = alarms.look(rows)
  assert [(a['step'], a['alarm']) for a in found] == [(8, name), (32, name)]
  assert 'config.ppo' in found[0]['says']
  assert alarms.look([numbers()] * 20) == []


def test_a_reward_that_rises_with_hallucination_is_an_alarm():
  def rows(wrong):
    return [
      numbers(objective_rewards=i / 10, answers_hallucination=0.5 + wrong * i)
      for i in range(12)
    ]

  (found,) = alarms.look(rows(0.01))
  assert found['alarm'] == 'reward hacking'
  assert 'hallucinating answers rose from 52%' in found['says']
  assert alarms.look(rows(-0.01)) == []
