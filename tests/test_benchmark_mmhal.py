"""MMHal-Bench: a judge's ratings against the original's."""

import json
from pathlib import Path

import pytest

from rlhfv_jax.benchmarks import judging, mmhal

GOLDEN = Path(__file__).parent / 'golden'
MMHAL = json.loads((GOLDEN / 'mmhal_scores.json').read_text())


@pytest.mark.parametrize(
  'case', MMHAL['single'], ids=lambda c: repr(c['content'][-30:])
)
def test_ratings_are_the_original_s(case):
  got = mmhal.rating(case['content'])
  assert got == case['score']
  assert (got < mmhal.GOOD) == case['counts_as_hallucination']
  assert mmhal.informativeness(got) == case['informativeness']
  assert mmhal.readable(case['content']) != case['warning']


@pytest.mark.parametrize(
  'reply, want',
  [
    ('Rating: 5', 5), ('**Rating:** 5', 5), ('Rating:5', 5), ('rating : 4', 4),
    ('I would give a rating of 3', 3), ('Rating: 4/6', 4), ('RATING - 2', 2),
    ('On the rating scale (0-6): rating: 4', 4),
    ('A rating of 2 would be harsh.\nRating: 4', 4),
    ('Rating: 10', None), ('Rating: 4.5', None), ('', None),
    ('I cannot rate this.', None), ('Rating: 0 or Rating: 2', None),
    ('评分：5', None),
  ],
)  # fmt: skip
def test_ratings_as_they_were_meant(reply, want):
  assert mmhal.rating(reply, strict=False) == want
  assert mmhal.readable(reply, strict=False) == (want is not None)


@pytest.fixture
def mmhal_path(tmp_path):
  rows = [
    {'question_type': mmhal.TYPES[i % 8], 'question_topic': 'food',
     'image_id': f'{i:016x}', 'image_src': f'https://a.b/{i}.jpg',
     'image_content': ['Cup', 'Table'], 'question': f'What is {i}?',
     'gt_answer': 'A {cup}.', 'model_answer': ''}
    for i in range(96)
  ]  # fmt: skip
  path = tmp_path / 'mmhal.json'
  path.write_text(json.dumps(rows))
  return path


def answered(path, text='A cup on a table.'):
  rows = json.loads(path.read_text())
  return [{'id': row['image_id'], 'answer': text} for row in rows]


@pytest.mark.parametrize('case', MMHAL['sets'])
def test_mmhal_scores_are_the_original_s(case, mmhal_path):
  answers, want = answered(mmhal_path), case['expected']
  ids = [answer['id'] for answer in answers]
  replies = dict(zip(ids, case['contents'], strict=True))
  got = mmhal.score(answers, mmhal_path, replies=replies, judge='a judge')
  assert got['official'] == {
    'Average score': want['average_score_2dp'],
    'Hallucination rate': want['hallucination_rate_2dp'],
    'Average score for each question type': want['average_score_per_type_2dp'],
    'Informativeness': pytest.approx(want['mean_informativeness_percent']),
  }
  metrics = got['metrics']
  assert f'{metrics["score"]["value"]:.2f}' == want['average_score_2dp']
  rate = metrics['hallucination']['value']
  assert f'{rate:.2f}' == want['hallucination_rate_2dp']
  told = metrics['informativeness']['value']
  assert 100 * told == pytest.approx(want['mean_informativeness_percent'])
  types = [round(metrics[f'score/{kind}']['value'], 2) for kind in mmhal.TYPES]
  assert types == want['average_score_per_type_2dp']
  assert metrics['score/other']['n'] == 12
  assert metrics['unparsed']['value'] * 96 == pytest.approx(want['n_warnings'])
  told = [mmhal.informativeness(a['rating']) for a in got['answers']]
  assert told == want['informativeness_per_item']


def test_what_the_judge_left_out_is_no_zero(mmhal_path):
  answers = answered(mmhal_path)
  replies = {answer['id']: 'Rating: 6' for answer in answers}
  first, second, third, *_ = replies
  del replies[first]
  replies[second], replies[third] = '', 'I would rather not.'
  strict = mmhal.score(answers, mmhal_path, replies=replies)
  assert strict['metrics']['score']['n'] == 95
  assert strict['metrics']['score']['value'] == pytest.approx(6 * 93 / 95)
  lenient = mmhal.score(answers, mmhal_path, replies=replies, strict=False)
  assert lenient['metrics']['score']['value'] == 6
  assert lenient['metrics']['score']['n'] == 93
  for got in (strict, lenient):
    assert got['official'] == {}
    told = f'1 of 96 answers were not judged: {first}'
    assert told in got['warnings']
    told = f'2 of 95 answers could not be parsed: {second}, {third}'
    assert told in got['warnings']
  with pytest.raises(ValueError, match='scored by a judge: give its replies'):
    mmhal.score(answers, mmhal_path)
  with pytest.raises(ValueError, match='1 of 96 replies are to no question'):
    mmhal.score(answers, mmhal_path, replies=replies | {'who': 'Rating: 1'})
  json.dumps(strict, allow_nan=False)


def test_mmhal_s_requests(mmhal_path, tmp_path):
  answers = answered(mmhal_path, 'It is {answer} or {question}.')
  first, *rest = mmhal.prompts(answers, mmhal_path)
  assert len(rest) == 95 and first['options']['temperature'] == 0
  for part in ('Cup, Table', 'What is 0?', 'A {cup}.',
               'It is {answer} or {question}.'):  # fmt: skip
    assert first['user'].count(part) == 1
  # The official template is one of str.format with four places.
  theirs = tmp_path / 'template.txt'
  theirs.write_text('{{x}} {} | {} | {} | {}\n')
  first, *_ = mmhal.prompts(answers, mmhal_path, prompt=theirs)
  assert first['user'] == (
    '{x} Cup, Table | What is 0? | A {cup}. | It is {answer} or {question}.\n'
  )
  theirs.write_text('{} {}')
  with pytest.raises(ValueError, match='2 places {} for 4 values: contents'):
    mmhal.prompts(answers, mmhal_path, prompt=theirs)
  with pytest.raises(ValueError, match='no place for {question}'):
    judging.fill('{answer}', answer='', question='')


def test_mmhal_s_pictures_are_found_by_either_name(mmhal_path, tmp_path):
  for i in range(96):
    name = f'{i:016x}.jpg' if i % 2 else f'{i}.jpg'
    (tmp_path / name).write_bytes(b'')
  asks = mmhal.questions(mmhal_path, images=tmp_path)
  assert asks[0]['image_path'].endswith('/0.jpg')
  assert asks[3]['image_path'].endswith('/0000000000000003.jpg')
  (tmp_path / '2.jpg').unlink()
  with pytest.raises(ValueError, match='1 of 96 pictures are missing: 0*2.jpg'):
    mmhal.questions(mmhal_path, images=tmp_path)
