"""The playroom's metrics on answers whose scores can be counted by hand."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from rlhfv_jax.benchmarks import paired, playroom
from rlhfv_jax.benchmarks.intervals import rate, ratio, wilson
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.captions import true_caption
from rlhfv_jax.playroom.picture import draw
from rlhfv_jax.playroom.scene import Group, Scene, World, truth_record

KITCHEN = Scene(
  'kitchen',
  (
    Group('cup', 'red', 2, 'bottom left'),
    Group('box', 'blue', 1, 'top right'),
  ),
  split='test',
)
GARDEN = Scene(
  'garden', (Group('ball', 'white', 1, 'top left'),), split='test', index=1
)
ANSWERS = [
  # A wrong place, and two things that are not there.
  'at the top left there are two red cups. at the top right there is a blue '
  'chair. there is a clock.',
  'at the top left there are two white balls.',
]


@pytest.fixture
def path(tmp_path):
  path = tmp_path / 'truth.jsonl'
  records = [truth_record(scene) for scene in (KITCHEN, GARDEN)]
  question = 'describe the picture.'
  dataset.write_records(path, [{**r, 'question': question} for r in records])
  return path


def answer(texts, ids=(KITCHEN.id, GARDEN.id)):
  return [{'id': i, 'answer': t} for i, t in zip(ids, texts, strict=True)]


def values(result):
  return {name: m['value'] for name, m in result['metrics'].items()}


def test_metrics_counted_by_hand(path):
  result = playroom.score(answer(ANSWERS), path)
  got = values(result)
  assert got == pytest.approx(
    {
      'hallucination': 1.0,
      'hallucination/object': 0.5,
      'hallucination/attribute': 0.0,
      'hallucination/position': 0.5,
      'hallucination/number': 0.5,
      # cup 4 claims, chair 1, clock 1, ball 4: four are wrong.
      'mention': 4 / 10,
      'mention/object': 2 / 4,
      'mention/attribute': 0.0,
      'mention/position': 1 / 2,
      'mention/number': 1 / 2,
      'coverage': 2 / 3,
      'coverage/claims': 6 / 12,
      'length': (22 + 9) / 2,
      'unread': 0.0,
      # Absent and usual: chair, clock there; tree, flower in the garden.
      'overgeneralization/room': 2 / 4,
      # Of 12 usual kinds, 11 are absent from each picture.
      'overgeneralization/all': 2 / 22,
      'overgeneralization': 2 / 4 - 2 / 22,
    }
  )
  first, second = result['answers']
  assert [ANSWERS[0][a:b] for a, b, _ in first['wrong']] == (
    ['top left', 'chair', 'clock']
  )
  assert [c for *_, c in first['wrong']] == ['position', 'object', 'object']
  assert first['left_out'] == ['box'] and second['left_out'] == []
  assert [ANSWERS[1][a:b] for a, b, _ in second['wrong']] == ['two']
  json.dumps(result)


def test_what_habits_add_is_compared_pairwise(path):
  silent = ['at the top left there are two white balls.'] * 2
  one = playroom.score(answer(ANSWERS), path)
  other = playroom.score(answer(silent), path)
  found = paired.compare(one, other)['overgeneralization']
  gained = values(other)['overgeneralization']
  gained -= values(one)['overgeneralization']
  assert found['difference'] == pytest.approx(gained) and gained < 0
  assert found['low'] <= found['difference'] <= found['high']
  # The first answer no longer has a chair and a clock; the second is the same.
  assert (found['up'], found['down'], found['same']) == (0, 1, 1)


def test_each_value_lies_in_its_interval(path):
  for name, m in playroom.score(answer(ANSWERS), path)['metrics'].items():
    assert m['low'] <= m['value'] <= m['high'], name
    assert m['n'] > 0


def test_the_order_of_answers_does_not_matter(path):
  one = playroom.score(answer(ANSWERS), path)
  assert playroom.score(answer(ANSWERS)[::-1], path) == one


def test_true_captions_are_perfect_and_silence_covers_nothing(tmp_path):
  path = tmp_path / 'truth.jsonl'
  world = World()
  records = dataset.describe_records(world, 'unseen', 60)
  dataset.write_records(path, records)
  scenes = list(dataset.scenes(world, 'unseen', 60))
  ids = [scene.id for scene in scenes]
  told = playroom.score(answer(map(true_caption, scenes), ids), path)
  assert values(told)['hallucination'] == values(told)['mention'] == 0
  assert values(told)['coverage'] == values(told)['coverage/claims'] == 1
  assert values(told)['overgeneralization'] == 0
  silent = playroom.score(answer([''] * 60, ids), path)
  assert silent['metrics']['hallucination']['n'] == 60
  assert values(silent)['coverage'] == values(silent)['length'] == 0
  assert silent['metrics']['mention']['n'] == 0


def test_missing_extra_and_doubled_ids_are_named(path):
  good = answer(ANSWERS)
  with pytest.raises(ValueError, match='1 answers to 2 .*1 missing: test-0-0'):
    playroom.score(good[:1], path)
  with pytest.raises(ValueError, match='1 not asked: who'):
    playroom.score([*good, {'id': 'who', 'answer': ''}], path)
  with pytest.raises(ValueError, match=f'1 doubled: {GARDEN.id}'):
    playroom.score([*good, good[1]], path)


def test_bad_records_are_named_with_file_and_row(path):
  record = {**truth_record(KITCHEN), 'question': 'what?'}
  del record['room']
  with path.open('a') as file:
    file.write(json.dumps(record) + '\n')
  with pytest.raises(ValueError, match="truth.jsonl, row 3: KeyError.'room'"):
    playroom.questions(path)


def test_questions_come_with_the_picture_of_their_scene(path):
  first, _ = playroom.questions(path)
  assert first['id'] == KITCHEN.id
  assert first['question'] == 'describe the picture.'
  image = Image.open(io.BytesIO(first['image']))
  assert image.tobytes() == draw(KITCHEN).tobytes()


def test_closed_questions(tmp_path):
  path = tmp_path / 'closed.jsonl'
  records = dataset.question_records(World(), 'test', 40, per_scene=3)
  dataset.write_records(path, records)
  ids = [record['id'] for record in records]
  true = [f' {record["answer"].capitalize()}.\n' for record in records]
  got = playroom.score_questions(answer(true, ids), path)
  assert {v for k, v in values(got).items() if k != 'vqa/yes'} == {1.0}
  forms = ('yesno', 'colour', 'number', 'place')
  counts = [got['metrics'][f'vqa/{form}']['n'] for form in forms]
  assert sum(counts) == got['metrics']['vqa']['n'] == 120
  yes = playroom.score_questions(answer(['yes'] * 120, ids), path)
  share = np.mean([r['answer'] == 'yes' for r in records])
  assert values(yes)['vqa'] == pytest.approx(share)
  assert values(yes)['vqa/yes'] == 1 and values(yes)['vqa/colour'] == 0
  with pytest.raises(ValueError, match='score_questions'):
    playroom.score(answer(true, ids), path)


def test_wilson_against_known_values():
  # Brown, Cai and DasGupta's (2001) form, worked out by hand at z = 1.96.
  assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
  assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
  assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
  assert wilson(0, 0) == (0, 1)
  assert rate([]) == {'value': 0.0, 'low': 0.0, 'high': 1.0, 'n': 0}


def test_the_bootstrap_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  hits = 0
  for trial in range(200):
    claims = rng.integers(1, 6, 80)
    # Claims of one answer stand or fall together: only 80 are independent.
    wrong = claims * (rng.random(80) < 0.3)
    got = ratio(wrong, claims, repeats=300, seed=trial)
    hits += got['low'] <= 0.3 <= got['high']
  assert 0.88 <= hits / 200 <= 0.99


def test_a_difference_of_ratios_is_paired():
  top, bottom = np.arange(50) % 3, np.full(50, 3)
  same = ratio(top, bottom, minus=(top, bottom))
  assert same['value'] == same['low'] == same['high'] == 0
