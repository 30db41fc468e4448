"""POPE's parser and metrics against the original's, and its builder."""

import json
from collections import Counter
from pathlib import Path

import pytest

from rlhfv_jax.benchmarks import paired, pope, pope_build
from rlhfv_jax.benchmarks.coco import Picture

GOLDEN = json.loads(
  (Path(__file__).parent / 'golden/pope_metrics.json').read_text()
)
SETS = {case['name']: case for case in GOLDEN['sets']}


@pytest.mark.parametrize(
  'case', GOLDEN['single_answer_predictions'], ids=lambda c: repr(c['answer'])
)
def test_answers_are_read_as_the_original_reads_them(case):
  assert pope.parse(case['answer']) == case['pred']


@pytest.mark.parametrize(
  'text, want',
  [
    ('NO', 'no'), ('no!', 'no'), ("There isn't a car.", 'no'), ('Nope.', 'no'),
    ('I cannot see one', 'no'), ('No, there is a dog.', 'no'),
    ('no\nyes', 'no'), ('"No"', 'no'), ('Yes, there is not a doubt', 'yes'),
    ('yes', 'yes'), ('There is a car in the image.', 'yes'),
    ('a knot', None), ('a no-parking sign', None), ('maybe', None), ('', None),
    ('是的', None),
  ],
)  # fmt: skip
def test_answers_are_read_as_they_were_meant(text, want):
  assert pope.parse(text, strict=False) == want


def write(path, case, split='random'):
  labels = ['yes' if label == '1' else 'no' for label in case['labels']]
  path.write_text(''.join(
    json.dumps({'question_id': i, 'image': f'{i}.jpg', 'label': label,
                'text': 'Is there a dog in the image?'}) + '\n'
    for i, label in enumerate(labels, 1)
  ))  # fmt: skip
  return [
    {'id': f'{split}/{i}', 'answer': text}
    for i, text in enumerate(case['answers'], 1)
  ]


@pytest.mark.parametrize('name', SETS)
def test_metrics_are_the_original_s(name, tmp_path):
  path = tmp_path / 'coco_pope_random.json'
  answers = write(path, SETS[name])
  got = pope.score(answers, path)
  want, printed = SETS[name]['expected'], got['official']['random']
  for key in ('TP', 'FP', 'TN', 'FN', 'yes_ratio', 'precision', 'recall', 'f1'):
    assert printed[key] == pytest.approx(want[key], abs=1e-9), key
  if want['error'] is None:
    assert printed['acc'] == pytest.approx(want['acc'], abs=1e-9)
  ours = {k: v['value'] for k, v in got['metrics'].items()}
  pairs = [('f1', 'f1'), ('yes', 'yes_ratio'), ('recall', 'recall')]
  for metric, key in pairs:
    value = want[key] or 0.0  # the original stops where it divides by zero
    assert ours[f'{metric}/random'] == pytest.approx(value, abs=1e-9)
    assert ours[metric] == pytest.approx(value, abs=1e-9)
  said = ''.join('1' if a['said'] == 'yes' else '0' for a in got['answers'])
  assert said == want['pred']
  json.dumps(got, allow_nan=False)


def test_silence_is_yes_for_the_original_and_told_by_us(tmp_path):
  path = tmp_path / 'coco_pope_random.json'
  answers = write(path, {'labels': '1100', 'answers': ['', '', '', '']})
  strict = pope.score(answers, path)
  assert strict['metrics']['recall/random']['value'] == 1
  assert strict['warnings'] == [
    "random: every answer was read as 'yes'",
    '4 of 4 answers are empty: random/1, random/2, random/3, random/4',
  ]
  lenient = pope.score(answers, path, strict=False)
  metrics = lenient['metrics']
  assert metrics['accuracy']['value'] == metrics['yes']['value'] == 0
  assert metrics['unparsed']['value'] == 1
  assert metrics['precision/random']['n'] == 0
  assert any('precision/random: nothing' in w for w in lenient['warnings'])


def test_three_splits_are_averaged(tmp_path):
  cases = {
    'random': {'labels': '1100', 'answers': ['Yes', 'Yes', 'No', 'No']},
    'popular': {'labels': '10', 'answers': ['No', 'No']},
    'adversarial': {'labels': '1100', 'answers': ['Yes', 'No', 'Yes', 'No']},
  }
  answers = [
    answer
    for split, case in cases.items()
    for answer in write(tmp_path / f'coco_pope_{split}.json', case, split)
  ]
  got = pope.score(answers, tmp_path)['metrics']
  assert [got[f'f1/{s}']['value'] for s in cases] == [1, 0, 0.5]
  assert got['f1']['value'] == pytest.approx(0.5)
  assert got['accuracy']['value'] == pytest.approx((1 + 0.5 + 0.5) / 3)
  assert got['accuracy/popular']['n'] == 2 and got['accuracy']['n'] == 10
  # A model that also finds what is there in two more questions.
  better = [{**a, 'answer': 'Yes'} if i in (4, 7) else a
            for i, a in enumerate(answers)]  # fmt: skip
  more = pope.score(better, tmp_path)
  change = paired.compare(pope.score(answers, tmp_path), more)
  for name in ('f1', 'accuracy', 'yes'):
    want = more['metrics'][name]['value'] - got[name]['value']
    assert change[name]['difference'] == pytest.approx(want), name
    assert change[name]['low'] <= want <= change[name]['high'], name
  json.dumps(change)
  assert change['accuracy']['up'] == 2 and change['accuracy']['same'] == 8
  asked = pope.questions(tmp_path, suffix='\nShort!')
  assert [row['id'] for row in asked] == [answer['id'] for answer in answers]
  assert asked[0]['question'].endswith('image?\nShort!')
  with pytest.raises(ValueError, match='10 of 10 pictures are missing: 1.jpg'):
    pope.questions(tmp_path, images=tmp_path)


def test_files_that_are_something_else(tmp_path):
  with pytest.raises(ValueError, match='no file here is named random or'):
    pope.questions(tmp_path)
  path = tmp_path / 'random.json'
  path.write_text('{"question_id": 1, "text": "?", "image": "", "label": "?"}')
  with pytest.raises(ValueError, match='record 1: .*neither yes nor no'):
    pope.questions(path)
  (tmp_path / 'other_random.json').write_text('')
  with pytest.raises(ValueError, match='2 files for the split random'):
    pope.questions(tmp_path)


# Forks and knives always together, cups everywhere, horses in one picture.
PICTURES = {
  f'{i}': Picture(('cup', 'fork', 'knife', 'plate', 'cup'), (), f'{i}.jpg')
  for i in range(20)
} | {
  f'{i}': Picture(('cup', 'fork', 'dog'), ()) for i in range(20, 30)
} | {'30': Picture(('horse', 'cup', 'man', 'apple'), ())}  # fmt: skip


@pytest.mark.parametrize('split', pope.SPLITS)
def test_the_builder_asks_as_much_that_is_there_as_is_not(split, tmp_path):
  rows = pope_build.build(PICTURES, split, n=31, each=3)
  assert Counter(row['label'] for row in rows) == {'yes': 93, 'no': 93}
  by_file = {p.file or i: set(p.objects) for i, p in PICTURES.items()}
  for row in rows:
    thing = row['text'].removeprefix('Is there a').removeprefix('n')
    thing = thing.removesuffix(' in the image?').strip()
    assert (thing in by_file[row['image']]) == (row['label'] == 'yes')
  pope_build.write(tmp_path / f'{split}.json', rows)
  assert len(pope.questions(tmp_path / f'{split}.json')) == 186
  texts = {row['text'] for row in rows}
  assert 'Is there an apple in the image?' in texts
  again = pope_build.build(PICTURES, split, n=31, each=3)
  assert rows == again


def test_splits_differ_in_what_is_absent_only():
  made = {s: pope_build.build(PICTURES, s, n=31, each=2) for s in pope.SPLITS}
  there = [[r['text'] for r in rows if r['label'] == 'yes']
           for rows in made.values()]  # fmt: skip
  assert there[0] == there[1] == there[2]
  absent = lambda split, image: [
    row['text'].split()[3]
    for row in made[split]
    if row['label'] == 'no' and row['image'] == image
  ]
  # What most pictures have: forks (30), then knives and plates (20).
  assert absent('popular', '30')[0] == 'fork'
  # Beside cup, fork and dog: knife and plate, which stand with forks.
  assert set(absent('adversarial', '25')) == {'knife', 'plate'}


def test_the_builder_says_what_it_lacks():
  with pytest.raises(ValueError, match='31 of 31 pictures.*n = 500'):
    pope_build.build(PICTURES, 'random')
  with pytest.raises(ValueError, match="split 'hard': it is one of random"):
    pope_build.build(PICTURES, 'hard')
