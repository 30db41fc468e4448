"""RLHF-V's table 2 on answers whose rates can be counted by hand."""

import base64
import json

import pytest

from rlhfv_jax.benchmarks import coco, overgeneralization

ROWS = [
  # What is there, a reference caption, what is said.
  (('cup',), 'A kitchen with a cup.', 'a cup and a bowl'),
  (('bowl',), 'Two kitchens.', 'a bowl and a bottle'),
  (('cup',), 'The Kitchen table.', 'nothing but a cup'),
  (('bowl', 'cup'), 'A street.', 'a bowl, a cup, a bottle'),
  (('dog',), 'A dog on grass.', 'a dog and a bowl'),
]


@pytest.fixture
def bench(tmp_path):
  questions, truth = tmp_path / 'objhal.jsonl', tmp_path / 'truth.jsonl'
  picture = base64.b64encode(b'x').decode()
  questions.write_text(''.join(
    json.dumps({'image_id': i, 'image': picture, 'question': '?'}) + '\n'
    for i in range(len(ROWS))
  ))  # fmt: skip
  truth.write_text(''.join(
    json.dumps({'image_id': i, 'objects': objects, 'captions': [caption]})
    + '\n'
    for i, (objects, caption, _) in enumerate(ROWS)
  ))  # fmt: skip
  answers = [
    {'id': str(i), 'answer': text} for i, (*_, text) in enumerate(ROWS)
  ]
  return answers, questions, truth


def test_rates_counted_by_hand(bench):
  answers, questions, truth = bench
  usual = {'kitchen': ('cup', 'bowl', 'bottle', 'sink')}
  got = overgeneralization.score(answers, questions, truth=truth, objects=usual)
  values = {k: v['value'] for k, v in got['metrics'].items()}
  # cup 0 of 3, bowl 2 of 4, bottle 2 of 2; nobody mentions a sink.
  assert values['all/kitchen'] == pytest.approx((0 + 1 / 2 + 1) / 3)
  # In the kitchens: cup 0 of 2, bowl 1 of 2, bottle 1 of 1.
  assert values['scene/kitchen'] == pytest.approx((0 + 1 / 2 + 1) / 3)
  assert values['difference/kitchen'] == values['difference'] == 0
  # Over all answers: 0, 2 and 2 of 5, sink too; 0, 1 and 1 of 3.
  assert values['all/kitchen/answers'] == pytest.approx((0.4 + 0.4) / 4)
  assert values['scene/kitchen/answers'] == pytest.approx((2 / 3) / 4)
  assert values['difference/answers'] == pytest.approx(1 / 6 - 1 / 5)
  # Silence would not pass for honesty: all is told but the caption's table.
  assert values['coverage'] == 6 / 7
  assert values['length'] == (5 + 5 + 4 + 6 + 5) / 5
  assert got['metrics']['scene/kitchen']['n'] == 3
  assert got['metrics']['all/kitchen']['n'] == 5
  assert got['warnings'] == [
    'kitchen: only 3 answers are about it',
    'kitchen: 1 of 4 objects are mentioned in no answer about it and left '
    'out: sink',
  ]
  for name, metric in got['metrics'].items():
    assert metric['low'] <= metric['value'] <= metric['high'], name
  json.dumps(got, allow_nan=False)


def test_usual_objects_are_those_with_most_instances():
  known = {
    '1': coco.Picture(('cup', 'cup', 'fork'), ('In a kitchen.',)),
    '2': coco.Picture(('cup', 'sink', 'fork'), ('A sink.', 'a Kitchen')),
    '3': coco.Picture(('car',) * 9, ('A streetcar in kitchenettes.',)),
  }
  usual = overgeneralization.usual(known, most=2)
  assert usual['kitchen'] == ('cup', 'fork')
  assert usual['street'] == ()


def test_the_paper_s_objects_stand_in_where_none_are_counted(bench):
  answers, questions, truth = bench
  got = overgeneralization.score(answers, questions, truth=truth)
  assert list(got['settings']['objects']) == list(overgeneralization.SCENES)
  assert got['metrics']['scene/bathroom']['n'] == 0
  assert any('bathroom: only 0 answers' in w for w in got['warnings'])
  assert got['metrics']['difference']['value'] == pytest.approx(
    got['metrics']['difference/kitchen']['value'] / 2
    + got['metrics']['difference/street']['value'] / 2
  )
  names = set(got['metrics'])
  for row in got['published']:
    assert set(row['metrics']) <= names
  json.dumps(got, allow_nan=False)


def test_answers_that_the_judge_left_out_count_nowhere(bench):
  answers, questions, truth = bench
  answers = [{**a, 'answer': f'{a["answer"]} on it'} for a in answers]
  replies = {str(i): '["bowl", "bottle"]' for i in range(4)}
  got = overgeneralization.score(
    answers, questions, truth=truth, replies=replies,
    objects={'kitchen': ('bowl',)},
  )  # fmt: skip
  assert got['metrics']['all/kitchen/answers']['value'] == 2 / 4
  assert any('not judged: 4' in w for w in got['warnings'])
