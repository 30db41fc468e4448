"""Intervals, pairs, runs of a judge, and what every result has."""

import json

import numpy as np
import pytest

from rlhfv_jax.benchmarks import (
  asked,
  intervals,
  manner,
  paired,
  published,
  runs,
  tally,
)  # fmt: skip


def result(hits, mentions=None, **changes):
  ids = [f'q{i}' for i in range(len(hits))]
  columns = {'rate': (hits, [1] * len(hits))}
  if mentions:
    columns['mention'] = mentions
  made = tally.result('pope', ids, columns, settings={'strict': True})
  return made | changes


def test_the_mean_of_many_has_the_interval_of_a_bootstrap(monkeypatch):
  rng = np.random.default_rng(0)
  bottoms = rng.integers(1, 9, 6000)
  tops = rng.binomial(bottoms, 0.3)
  linear = intervals.ratio(tops, bottoms)
  monkeypatch.setattr(intervals, 'MANY', 10**9)
  drawn = intervals.ratio(tops, bottoms, repeats=2000)
  assert linear['value'] == drawn['value'] and linear['n'] == drawn['n']
  width = drawn['high'] - drawn['low']
  assert abs(linear['low'] - drawn['low']) < 0.1 * width
  assert abs(linear['high'] - drawn['high']) < 0.1 * width


def test_a_linear_difference_is_paired():
  n = intervals.MANY + 1
  rng = np.random.default_rng(1)
  before = rng.random(n)
  after = before + 0.1
  got = intervals.ratio(after, np.ones(n), minus=(before, np.ones(n)))
  assert got['low'] == pytest.approx(0.1) == got['high']


def test_the_normal_interval_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(2)
  n = intervals.MANY + 1
  hits = 0
  for _ in range(200):
    bottoms = rng.integers(1, 6, n)
    tops = bottoms * (rng.random(n) < 0.3)
    got = intervals.ratio(tops, bottoms)
    hits += got['low'] <= 0.3 <= got['high']
  assert 0.90 <= hits / 200 <= 0.99


def test_a_function_of_sums_redraws_answers():
  columns = [[1, 0, 1, 1], [1, 1, 1, 1]]
  share = lambda sums: sums[:, 0] / sums[:, 1]
  got = intervals.of_sums(columns, share)
  assert got['value'] == 0.75 and got['low'] < 0.75 < got['high']
  assert intervals.of_sums([[], []], share)['value'] == 0


def test_a_rate_has_wilson_s_interval_and_a_mean_its_own():
  assert tally.metric([1, 0, 0, 0], [1, 1, 1, 0]) == intervals.rate([1, 0, 0])
  mean = tally.metric([3, 5, 1, 4], [1, 1, 1, 1])
  assert mean['value'] == 3.25 and 1 <= mean['low'] < mean['high'] <= 5


def test_a_result_says_what_is_wrong_with_it():
  got = tally.result(
    'chair', ['a', 'b'],
    {'mention': ([0, 0], [0, 0]), 'empty': ([1, 0], [1, 1])},
    settings={}, warnings=['first'],
  )  # fmt: skip
  assert got['warnings'] == [
    'first',
    '1 of 2 answers are empty: a',
    'mention: nothing to measure it on (n = 0), the 0 is no result',
  ]
  assert got['answers'][0] == {'id': 'a', 'counts': {'empty': [1, 1]}}
  json.dumps(got, allow_nan=False)


def test_pairs_count_who_changed_and_are_narrower_than_two_intervals():
  rng = np.random.default_rng(3)
  before = rng.random(400) < 0.5
  after = before.copy()
  after[:20] = ~after[:20]
  got = paired.compare(result(before.tolist()), result(after.tolist()))['rate']
  up = int((after & ~before).sum())
  down = int((before & ~after).sum())
  assert (got['up'], got['down'], got['same']) == (up, down, 400 - up - down)
  assert got['difference'] == pytest.approx((up - down) / 400)
  assert got['low'] <= got['difference'] <= got['high']
  single = intervals.rate(before)
  assert got['high'] - got['low'] < (single['high'] - single['low']) / 2


def test_pairs_know_answers_that_only_one_model_adds_to():
  one = result([1, 0, 1], ([1, 0, 0], [2, 0, 3]))
  other = result([1, 1, 1], ([1, 1, 0], [1, 1, 3]))
  got = paired.compare(one, other)
  assert got['mention']['difference'] == pytest.approx(2 / 5 - 1 / 5)
  assert (got['mention']['up'], got['mention']['same']) == (1, 1)
  assert got['mention']['n'] == 3
  assert got['rate']['up'] == 1 and got['rate']['down'] == 0


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'version': 0}, 'versions 1 and 0.*score the answers of the older'),
    ({'benchmark': 'vqa'}, 'benchmark differ: pope and vqa'),
    ({'settings': {'strict': False}}, 'settings differ'),
    ({'answers': []}, '3 only in the first .q0, q1, q2., 0 only'),
  ],
)
def test_what_cannot_be_compared_is_refused(changes, match):
  with pytest.raises(ValueError, match=match):
    paired.compare(result([1, 0, 1]), result([1, 0, 1], **changes))
  with pytest.raises(ValueError, match='no result of a benchmark: answers'):
    paired.compare(result([1, 0, 1]), {'benchmark': 'pope', 'version': 1,
                                       'settings': {}})  # fmt: skip


def test_runs_of_a_judge_are_averaged_with_their_spread():
  several = [result([1, 0, 1, 1]), result([0, 0, 1, 1]), result([1, 1, 1, 1])]
  got = runs.average(several)
  rate = got['metrics']['rate']
  assert rate['value'] == pytest.approx((0.75 + 0.5 + 1) / 3)
  assert rate['spread'] == pytest.approx(np.std([0.75, 0.5, 1], ddof=1))
  assert rate['runs'] == [0.75, 0.5, 1] and got['runs'] == 3
  assert got['answers'][0]['counts']['rate'] == [pytest.approx(2 / 3), 1]
  again = paired.compare(got, several[0])['rate']
  assert again['difference'] == pytest.approx(0.75 - rate['value'])
  with pytest.raises(ValueError, match='different questions'):
    runs.average([several[0], result([1])])


def test_published_numbers_are_read_as_fractions():
  names = {path.stem for path in published.FOLDER.glob('*.txt')}
  assert {'objhal', 'mmhal', 'pope', 'vqa', 'amber'} <= names
  for name in names:
    rows = published.published(name)
    assert rows and all(r['source'] and r['judge'] for r in rows), name
    for row in rows:
      for metric, value in row['metrics'].items():
        top = 6 if metric.startswith('score/') or metric == 'score' else 1.2
        assert -0.1 < value <= top, (name, row)
  rows = published.published('objhal')
  row = next(r for r in rows if r['model'] == 'RLHF-V 13B')
  assert row['metrics'] == {'hallucination': 0.122, 'mention': 0.075}
  assert published.published('chair') == []


def test_each_type_s_ratings_average_to_the_published_score():
  for row in published.published('mmhal'):
    kinds = [v for k, v in row['metrics'].items() if k.startswith('score/')]
    if kinds:
      mean = sum(kinds) / len(kinds)
      assert row['metrics']['score'] == pytest.approx(mean, abs=0.011)


@pytest.mark.parametrize(
  'text, want',
  [
    ('', False),
    ('yes', False),
    ('A dog is on the grass, and it plays with a ball.', False),
    ('Une voiture rouge est garée devant une maison blanche.', True),
    ('一只狗在草地上。', True),
    ('Собака бежит', True),
    ('crème brûlée', False),
    ('1 2 3 4 5 6 7 8 9 10', False),
  ],
)
def test_another_language_is_told(text, want):
  assert manner.foreign(text) == want


def test_answers_of_official_files_are_read(tmp_path):
  path = tmp_path / 'answers.jsonl'
  path.write_text('{"question_id": 3, "text": "A dog.", "model_id": "m"}\n')
  assert asked.read_answers(path) == [{'id': '3', 'answer': 'A dog.'}]
  path.write_text('[{"id": 1, "response": "Yes"}]')
  assert asked.read_answers(path) == [{'id': '1', 'answer': 'Yes'}]
  path.write_text('{"id": "a", "answer": null}\n')
  with pytest.raises(ValueError, match='record 1: KeyError'):
    asked.read_answers(path)
  path.write_text('')
  with pytest.raises(ValueError, match='no record in it'):
    asked.read_answers(path)


def test_answers_that_do_not_fit_are_named():
  good = [{'id': 'a', 'answer': 'x'}, {'id': 'b', 'answer': ''}]
  assert asked.texts(good[::-1], ['a', 'b'], 'file') == ['x', '']
  with pytest.raises(ValueError, match='1 missing: b'):
    asked.texts(good[:1], ['a', 'b'], 'file')
  with pytest.raises(ValueError, match='1 not asked: b'):
    asked.texts(good, ['a'], 'file')
  with pytest.raises(ValueError, match='1 doubled: a'):
    asked.texts([*good, good[0]], ['a', 'b'], 'file')
  with pytest.raises(ValueError, match="answer 1 is .*want 'id' and 'answer'"):
    asked.texts([{'id': 'a', 'answer': None}], ['a'], 'file')
  names = [f'q{i:02}' for i in range(20)]
  with pytest.raises(ValueError, match='q07 and 12 more'):
    asked.texts([], names, 'file')


def test_ids_that_come_twice_are_told_apart():
  assert asked.unique([7, 7, 8, 7]) == ['7', '7#2', '8', '7#3']
