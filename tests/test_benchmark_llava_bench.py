"""LLaVA-Bench: pairs of scores, requests and summaries as the originals'."""

import json
import math
from pathlib import Path

import pytest

from rlhfv_jax.benchmarks import llava_bench

LLAVA = json.loads(
  (Path(__file__).parent / 'golden/llava_bench_scores.json').read_text()
)


@pytest.mark.parametrize(
  'case', LLAVA['parse_score'], ids=lambda c: repr(c['review'])
)
def test_pairs_of_scores_are_the_original_s(case):
  want = [math.nan if v == 'nan' else v for v in case['tuple']]
  assert llava_bench.scores(case['review']) == pytest.approx(want, nan_ok=True)


@pytest.mark.parametrize(
  'reply, want',
  [
    ('7, 8', (7, 8)), ('8  9 ', (8, 9)), ('\n8 9\nfoo', (8, 9)),
    ('8/10 9/10', (8, 9)), ('8\t9', (8, 9)), ('**8 9**', (8, 9)),
    ('7.5 8.5', (7.5, 8.5)), ('Scores: 8, 9.', (8, 9)),
    ('Assistant 1: 8\nAssistant 2: 9', (8, 9)), ('8', None), ('a b', None),
    ('Both are good.', None), ('', None),
  ],
)  # fmt: skip
def test_pairs_of_scores_as_they_were_meant(reply, want):
  assert llava_bench.scores(reply, strict=False) == want


@pytest.fixture(params=['COCO', 'in the wild'])
def llava_path(request, tmp_path):
  kinds = ('conv', 'detail', 'complex')
  asks = [
    {'question_id': i, 'image': f'{i // 3}.jpg', 'text': f'What is {i}?',
     'category': kinds[i % 3]} for i in range(6)
  ]  # fmt: skip
  answers = [{'question_id': i, 'text': f'It is {i}.'} for i in range(6)]
  if request.param == 'COCO':
    names = ('qa90_questions.jsonl', 'qa90_gpt4_answer.jsonl',
             'caps_boxes_coco2014_val_80.jsonl')  # fmt: skip
    contexts = [
      {'id': i, 'image': f'{i}.jpg', 'captions': ['One.', 'Two.'],
       'instances': [{'category': 'cup', 'bbox': [0.1, 0.2, 0.3, 0.4]}]}
      for i in range(2)
    ]  # fmt: skip
  else:
    names = ('questions.jsonl', 'answers_gpt4.jsonl', 'context.jsonl')
    contexts = [{'image': f'{i}.jpg', 'caption': 'A cup.'} for i in range(2)]
  for name, rows in zip(names, (asks, answers, contexts), strict=True):
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (tmp_path / name).write_text(text)
  return tmp_path


def six(text='A cup.'):
  return [{'id': str(i), 'answer': text} for i in range(6)]


def test_llava_bench_s_requests(llava_path):
  rules = {
    name: {'prompt': f'Be strict about {name}.', 'role': 'Assistant'}
    for name in ('conv', 'detail', 'complex', 'llava_bench_conv',
                 'llava_bench_detail', 'llava_bench_complex')
  }  # fmt: skip
  (llava_path / 'rule.json').write_text(json.dumps(rules))
  first, *rest = llava_bench.prompts(six('Mine.'), llava_path)
  wild = (llava_path / 'context.jsonl').exists()
  context = 'A cup.' if wild else 'One.\nTwo.\n\ncup: [0.1, 0.2, 0.3, 0.4]'
  name = 'llava_bench_conv' if wild else 'conv'
  assert first['user'] == (
    f'[Context]\n{context}\n\n[Question]\nWhat is 0?\n\n[Assistant 1]\nIt is '
    '0.\n\n[End of Assistant 1]\n\n[Assistant 2]\nMine.\n\n[End of Assistant '
    f'2]\n\n[System]\nBe strict about {name}.\n\n'
  )
  assert first['system'] and first['options']['max_tokens'] == 1024
  assert [row['id'] for row in rest] == ['1', '2', '3', '4', '5']
  (llava_path / 'rule.json').unlink()
  first, *_ = llava_bench.prompts(six(), llava_path)
  assert 'score from 1 to 10' in first['user']


def test_llava_bench_s_scores_and_both_summaries(llava_path):
  replies = ['8 4', '8 8', '10 5', '8 4', '7, 8', '10 10']
  given = {str(i): reply for i, reply in enumerate(replies)}
  got = llava_bench.score(six(), llava_path, replies=given)
  relative = {k: v['value'] for k, v in got['metrics'].items()}
  assert relative['relative/conv'] == 0.5 and relative['relative/detail'] == 1
  assert relative['relative'] == pytest.approx(31 / 44)
  assert got['official']['RLHF-V']['detail'] == 100.0
  assert got['official']['RLHF-V']['all'] == round(31 / 44 * 100, 1)
  # LLaVA averages the -1 of what failed.
  assert got['official']['LLaVA']['detail'] == round(3.5 / 3.5 * 100, 1)
  assert got['official']['LLaVA']['all'] == round(30 / 43 * 100, 1)
  assert got['metrics']['unparsed']['value'] == pytest.approx(1 / 6)
  lenient = llava_bench.score(six(), llava_path, replies=given, strict=False)
  assert lenient['metrics']['relative/detail']['value'] == 16 / 15
  assert lenient['settings']['set'] in ('COCO', 'in the wild')
  del given['3']
  given['0'] = 'nan 4'
  got = llava_bench.score(six(), llava_path, replies=given)
  assert got['metrics']['relative/conv']['n'] == 0
  assert got['metrics']['unjudged']['value'] == pytest.approx(1 / 6)
  json.dumps(got, allow_nan=False)


def test_a_folder_with_a_gap_is_named(llava_path):
  (llava_path / 'rule.json').write_text('{"other": {}}')
  with pytest.raises(ValueError, match="no rule for '.*conv' among"):
    llava_bench.prompts(six(), llava_path)
  name = next(p for p in llava_path.glob('*answer*.jsonl'))
  name.write_text('{"question_id": 0, "text": ""}\n')
  with pytest.raises(ValueError, match='record 2: no 1 for it in'):
    llava_bench.questions(llava_path)
  with pytest.raises(ValueError, match='neither qa90_questions.jsonl nor'):
    llava_bench.questions(llava_path / 'nowhere')
