"""VQAv2's normalisation and accuracy against the official evaluation."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.benchmarks import vqa

GOLDEN = Path(__file__).parent / 'golden'
NORMAL = json.loads((GOLDEN / 'vqav2_normalise.json').read_text())['rows']
ACCURACY = json.loads((GOLDEN / 'vqav2_accuracy.json').read_text())


@pytest.mark.parametrize('row', NORMAL, ids=lambda row: repr(row['raw'][:30]))
def test_normalisation_is_the_official_one(row):
  assert vqa.normalize(row['raw']) == row['normalised']


def test_accuracy_is_the_official_one():
  people = {
    row['question_id']: [answer['answer'] for answer in row['answers']]
    for row in ACCURACY['annotations']
  }
  for row in ACCURACY['results']:
    got = vqa.accuracy(row['answer'], people[row['question_id']])
    want = ACCURACY['expected_percent_n10'][str(row['question_id'])]
    assert 100 * got == pytest.approx(want, abs=1e-6), row


@pytest.mark.parametrize(
  'agree, want', [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)]
)
def test_accuracy_by_how_many_agree(agree, want):
  people = ['dog'] * agree + [f'thing{i}' for i in range(10 - agree)]
  assert vqa.accuracy('a dog.', people) == pytest.approx(want)


def test_unanimous_people_are_compared_to_the_letter_if_strict():
  assert vqa.accuracy('The dog', ['dog'] * 10) == 0
  assert vqa.accuracy('The dog', ['dog'] * 10, strict=False) == 1
  assert vqa.accuracy(' dog\n', ['dog'] * 10) == 1
  with pytest.raises(ValueError, match='no answers of people'):
    vqa.accuracy('dog', [])


@settings(deadline=None)
@given(st.text(max_size=60))
def test_normalisation_leaves_no_mark_and_no_article(text):
  words = vqa.normalize(text).split()
  assert not set(words) & {'a', 'an', 'the', 'one', 'none'}
  assert not set(''.join(words)) & set(';/[]"{}()=+\\_-><@`,?!')


@pytest.fixture
def bench(tmp_path):
  questions, notes = tmp_path / 'questions.json', tmp_path / 'notes.json'
  questions.write_text(json.dumps({
    'data_subtype': 'val2014', 'questions': ACCURACY['questions'],
  }))  # fmt: skip
  notes.write_text(json.dumps({'annotations': ACCURACY['annotations']}))
  answers = [
    {'id': str(row['question_id']), 'answer': row['answer']}
    for row in ACCURACY['results']
  ]
  return answers, questions, notes


def test_scores_by_type(bench):
  answers, questions, notes = bench
  got = vqa.score(answers, questions, annotations=notes)
  want = ACCURACY['expected_percent_n10']
  mean = sum(want.values()) / len(want)
  assert got['official']['overall'] == round(mean, 2)
  assert 100 * got['metrics']['accuracy']['value'] == pytest.approx(mean)
  kinds = {row['question_id']: row for row in ACCURACY['annotations']}
  for key, name in (('answer_type', 'perAnswerType'),
                    ('question_type', 'perQuestionType')):  # fmt: skip
    for kind, value in got['official'][name].items():
      rows = [v for i, v in want.items() if kinds[int(i)][key] == kind]
      assert value == round(sum(rows) / len(rows), 2)
  by_type = got['metrics']['accuracy/other']
  assert by_type['n'] == sum(
    row['answer_type'] == 'other' for row in ACCURACY['annotations']
  )
  short = sum(0 < len(a['answer'].split()) <= 3 for a in answers)
  assert got['metrics']['short']['value'] == pytest.approx(short / len(answers))
  json.dumps(got, allow_nan=False)


def test_the_file_for_evalai(bench, tmp_path):
  answers, questions, _ = bench
  out = tmp_path / 'upload.json'
  vqa.evalai(answers, questions, out)
  made = json.loads(out.read_text())
  assert [row['question_id'] for row in made] == (
    [row['question_id'] for row in ACCURACY['questions']]
  )
  given = {int(a['id']): a['answer'] for a in answers}
  assert all(
    row == {'question_id': row['question_id'],
            'answer': vqa.normalize(given[row['question_id']])}
    for row in made
  )  # fmt: skip
  vqa.evalai(answers, questions, out, normalized=False)
  raw = json.loads(out.read_text())
  assert {r['question_id']: r['answer'] for r in raw} == given
  with pytest.raises(ValueError, match='1 missing'):
    vqa.evalai(answers[1:], questions, out)


def test_questions_and_files_that_are_something_else(bench, tmp_path):
  answers, questions, notes = bench
  first, *_ = vqa.questions(questions)
  assert first['question'].endswith('using a single word or phrase.')
  for row in ACCURACY['questions']:
    (tmp_path / f'COCO_val2014_{row["image_id"]:012}.jpg').write_bytes(b'')
  asked = vqa.questions(questions, images=tmp_path)
  assert asked[0]['image_path'].endswith('COCO_val2014_000000000000.jpg')
  with pytest.raises(ValueError, match='not a file of VQA questions'):
    vqa.questions(notes)
  with pytest.raises(ValueError, match='not a file of VQA annotations'):
    vqa.score(answers, questions, annotations=questions)
  fewer = {'annotations': ACCURACY['annotations'][1:]}
  notes.write_text(json.dumps(fewer))
  with pytest.raises(ValueError, match='1 of 149 questions.*EvalAI'):
    vqa.score(answers, questions, annotations=notes)
