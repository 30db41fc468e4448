"""RLHF-V's table 2 on answers whose rates can be counted by hand."""

import base64
import json

import numpy as np
import pytest

from rlhfv_jax.benchmarks import coco, overgeneralization, paired, runs

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
  return written(tmp_path, ROWS)


def written(tmp_path, rows):
  questions, truth = tmp_path / 'objhal.jsonl', tmp_path / 'truth.jsonl'
  picture = base64.b64encode(b'x').decode()
  questions.write_text(''.join(
    json.dumps({'image_id': i, 'image': picture, 'question': '?'}) + '\n'
    for i in range(len(rows))
  ))  # fmt: skip
  truth.write_text(''.join(
    json.dumps({'image_id': i, 'objects': objects, 'captions': [caption]})
    + '\n'
    for i, (objects, caption, _) in enumerate(rows)
  ))  # fmt: skip
  answers = [
    {'id': str(i), 'answer': text} for i, (*_, text) in enumerate(rows)
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


USUAL = {'kitchen': ('cup', 'bowl'), 'street': ('bottle', 'cup')}


def by_hand(rows):
  """Every metric of (what is there, a caption, what is named)."""
  found = {}

  def macro(rows, names, below):
    rates = []
    for name in names:
      said = [row for row in rows if name in row[2]]
      wrong = [row for row in said if name not in row[0]]
      under = said if below == 'mentions' else rows
      rates += [len(wrong) / len(under)] if under else []
    return sum(rates) / len(rates) if rates else None

  for below, suffix in (('mentions', ''), ('answers', '/answers')):
    apart = []
    for scene, names in USUAL.items():
      every = macro(rows, names, below)
      here = macro([row for row in rows if scene in row[1]], names, below)
      found[f'all/{scene}{suffix}'] = every
      found[f'scene/{scene}{suffix}'] = here
      known = None not in (every, here)
      gap = here - every if known else None
      found[f'difference/{scene}{suffix}'] = gap
      apart += [gap] if known else []
    mean = sum(apart) / len(apart) if apart else None
    found[f'difference{suffix}'] = mean
  return found


def test_two_models_are_compared_on_the_same_redrawn_answers(tmp_path):
  rng, things = np.random.default_rng(5), ('cup', 'bowl', 'bottle', 'dog')
  some = lambda share: [x for x in things if rng.random() < share]
  rows = [
    (some(0.5) or ['dog'], f'A {("kitchen", "street", "lawn")[i % 3]}.')
    for i in range(40)
  ]
  said = [[some(0.6) for _ in rows]]
  said.append([some(0.6) if rng.random() < 0.3 else old for old in said[0]])
  one, other = (
    overgeneralization.score(
      answers, questions, truth=truth, objects=USUAL, repeats=1
    )
    for named in said
    for answers, questions, truth in [written(tmp_path, [
      (*row, f'I see {", a ".join(["it", *names])}.')
      for row, names in zip(rows, named, strict=True)
    ])]
  )  # fmt: skip
  got = paired.compare(one, other, repeats=200, seed=3)

  def apart(rows_of):
    before, after = map(by_hand, rows_of)
    return {k: after[k] - before[k] for k in after
            if None not in (before[k], after[k])}  # fmt: skip

  before, after = (
    [(*row, names) for row, names in zip(rows, named, strict=True)]
    for named in said
  )
  drawn, draw = [], np.random.default_rng(3)
  for _ in range(200):
    which = draw.integers(0, len(rows), len(rows))
    drawn.append(apart([[x[i] for i in which] for x in (before, after)]))
  for name, value in apart((before, after)).items():
    change = got[name]
    assert change['difference'] == pytest.approx(value, abs=1e-12), name
    assert change['difference'] == pytest.approx(
      other['metrics'][name]['value'] - one['metrics'][name]['value']
    )
    ends = np.percentile([d[name] for d in drawn if name in d], [2.5, 97.5])
    assert [change['low'], change['high']] == pytest.approx(ends, abs=1e-12)
    moved = []
    for i in range(len(rows)):
      alone = [*before[:i], after[i], *before[i + 1 :]]
      moved.append(round(apart((before, alone))[name], 12))
    assert change['up'] == sum(m > 0 for m in moved), name
    assert change['down'] == sum(m < 0 for m in moved), name
    assert change['up'] + change['down'] + change['same'] == len(rows)
  assert got['difference']['up'] and got['difference']['down']
  # Runs of a judge are averaged in what each answer adds, so it holds of them.
  again = paired.compare(one, runs.average([other, other]), seed=3, repeats=200)
  assert again['difference'] == got['difference']


def test_where_a_model_has_no_rate_there_is_no_difference(bench):
  answers, questions, truth = bench
  silent = [{**a, 'answer': 'a lamp'} for a in answers]
  one, other = (
    overgeneralization.score(
      said, questions, truth=truth, objects={'kitchen': ('cup', 'bowl')}
    )
    for said in (answers, silent)
  )
  got = paired.compare(one, other)
  assert {'all/kitchen', 'difference'}.isdisjoint(got)
  assert got['all/kitchen/answers']['difference'] == -2 / 5 / 2
