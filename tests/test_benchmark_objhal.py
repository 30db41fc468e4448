"""Object HalBench against what the original code returns."""

import base64
import json
from pathlib import Path

import pytest
from test_benchmark_chair import answered, synonyms, write_truth

from rlhfv_jax.benchmarks import coco, extraction, objhal

GOLDEN = Path(__file__).parent / 'golden'
LEXICAL = json.loads((GOLDEN / 'objhal_lexical.json').read_text())['rows']
JUDGE = json.loads((GOLDEN / 'objhal_judge.json').read_text())


@pytest.fixture(scope='module')
def objhal_path(tmp_path_factory):
  rows = [*LEXICAL, *JUDGE['rows']]
  pairs = {
    tuple(pair)
    for row in rows
    for pair in row['expected']['mscoco_generated_words']
  } | {('seat', 'chair'), ('coffee table', 'dining table'),
       ('hydrant', 'fire hydrant'), ('stove top oven', 'oven')}  # fmt: skip
  names = {name for row in rows for name in row['expected']['gt_objects']}
  path = tmp_path_factory.mktemp('objhal') / 'synonyms.txt'
  return synonyms(path, pairs, names)


@pytest.mark.parametrize('row', LEXICAL, ids=lambda row: row['answer'][:40])
def test_objhal_lexical(row, objhal_path):
  text = objhal.plain(row['answer'])
  assert text == row['expected']['caption_after_load']
  pairs = [tuple(p) for p in row['expected']['mscoco_generated_words']]
  assert objhal.mentions(text, objhal_path) == pairs


@pytest.mark.parametrize(
  'row', JUDGE['rows'], ids=lambda row: row['answer'][:40]
)
def test_objhal_judged(row, objhal_path):
  want, words = row['expected'], objhal.official(objhal_path)
  names = extraction.listed(row['judge_content']) if row['judge_called'] else []
  assert names == want['extract_objs']
  found = extraction.mentions(names, words, row['nlp'].__getitem__)
  pairs = [[mention.word, mention.object] for mention in found]
  assert pairs == want['mscoco_generated_words']


def test_parsed_lists_and_terms_are_the_original_s(objhal_path):
  for case in JUDGE['parse_object_list']:
    want = case['result']
    if isinstance(want, dict):
      want = list(want)
    elif isinstance(want, int):
      want = None  # the original stops when it goes through it
    assert extraction.listed(case['content']) == want
  words = objhal.official(objhal_path)
  for case in JUDGE['get_double_words_only']:
    assert extraction.pairs(case['lemmas'], words) == case['double_words']
  for case in JUDGE['caption_objects_to_coco_objects']:
    # As a tagger would give each word, so that it is taken as it is.
    found = extraction.mentions(
      case['words'], words, lambda text: [(text[2:], text[2:], 'NN')]
    )
    assert [[m.word, m.object] for m in found] == case['result'][1]


@pytest.mark.parametrize(
  'reply, want',
  [
    ('["dog"]\nthanks', ['dog']),
    ("Objects: ['dog', 'park bench']", ['dog', 'park bench']),
    ('```json\n["dog",\n "cat"]\n```', ['dog', 'cat']),
    ('()', []),
    ('There are no visible objects.', []),
    ('I am sorry, I cannot help with that.', None),
    ('["dog", "ca', None),
    ('', None),
  ],
)
def test_lenient_lists(reply, want):
  assert extraction.listed(reply, strict=False) == want


def write_questions(path, rows):
  picture = base64.b64encode(b'a picture').decode()
  with path.open('w') as file:
    for row in rows:
      record = {'image_id': row['image_id'], 'image': picture,
                'question': row['question']}  # fmt: skip
      file.write(json.dumps(record) + '\n')
  return path


@pytest.fixture
def bench(tmp_path):
  rows = [row for row in LEXICAL if not row['gt_captions']]
  questions = write_questions(tmp_path / 'objhal.jsonl', rows)
  return rows, questions, write_truth(tmp_path / 'truth.jsonl', rows)


def test_objhal_rates_are_the_original_s(bench, objhal_path):
  rows, questions, truth = bench
  got = objhal.score(
    answered(rows, 'answer'), questions, truth=truth, lexicon=objhal_path
  )
  want = [row['expected'] for row in rows]
  said = [len(w['mscoco_generated_words']) for w in want]
  wrong = [len(w['hallucinated']) for w in want]
  both = [
    set(w['gt_objects']) & {n for _, n in w['mscoco_generated_words']}
    for w in want
  ]
  official = got['official']
  share = sum(map(bool, wrong)) / sum(map(bool, said))
  assert official['CHAIRs_refine'] == pytest.approx(share, abs=1e-9)
  assert official['CHAIRs'] == sum(map(bool, wrong)) / len(rows)
  assert official['CHAIRi'] == pytest.approx(sum(wrong) / sum(said), abs=1e-9)
  assert official['coco_word_count'] == sum(map(len, both))
  assert official['gt_word_count'] == sum(len(w['gt_objects']) for w in want)
  lengths = [len(w['caption_after_load'].split(' ')) for w in want]
  assert official['avg_word_len'] == sum(lengths) / len(rows)
  metrics = got['metrics']
  assert metrics['hallucination']['value'] == official['CHAIRs_refine']
  assert metrics['hallucination']['n'] == official['coco_sentence_num']
  assert metrics['coverage']['value'] == pytest.approx(official['obj_rec'])
  assert got['published'][0]['judge'].startswith('gpt-3.5-turbo')
  json.dumps(got, allow_nan=False)


def test_a_judge_s_replies_count_as_lists(bench, objhal_path):
  rows, questions, truth = bench
  by_id = {str(row['image_id']): row for row in JUDGE['rows']}
  answers = answered(rows, 'answer')
  asks = objhal.prompts(answers, questions)
  long = {a['id'] for a in answers if len(a['answer'].split()) > 3}
  assert {ask['id'] for ask in asks} == long
  assert all(ask['system'] and not ask['user'] for ask in asks)
  ids = [i for i in long if i in by_id]
  replies = {i: by_id[i]['judge_content'] for i in ids}
  gone, broken, *_ = sorted(ids)
  del replies[gone]
  replies[broken] = 'I cannot say.'
  got = objhal.score(
    answers, questions, truth=truth, lexicon=objhal_path, replies=replies,
    analyse=lambda text: next(r['nlp'][text] for r in JUDGE['rows']
                              if text in r['nlp']),
  )  # fmt: skip
  said = {a['id']: a for a in got['answers']}
  for i in set(ids) - {gone, broken}:
    assert said[i]['objects'] == by_id[i]['expected']['mscoco_generated_words']
  assert got['metrics']['unjudged']['value'] * len(long) == pytest.approx(
    len(long) - len(replies)
  )
  assert said[broken]['counts']['unparsed'] == [1, 1]
  for i in (gone, broken):
    assert 'hallucination/all' not in said[i]['counts']
  assert any(gone in w and 'not judged' in w for w in got['warnings'])


def test_stored_lists_are_scored_without_a_judge(bench):
  rows, questions, truth = bench
  answers = answered(rows, 'answer')
  lists = {a['id']: ['a unicorn', 'dogs'] for a in answers}
  got = objhal.score(answers, questions, truth=truth, extractions=lists)
  assert got['settings']['extraction'] == 'stored'
  named = {o for a in got['answers'] for _, o in a['objects']}
  assert named == {'dog'}


def test_bad_answers_are_counted_and_do_not_stop_the_scoring(bench):
  rows, questions, truth = bench
  texts = [
    '',
    '照片里有一只狗在草地上奔跑。',
    'Ein Hund läuft. ' * 6,
    'a dog ' * 17_000,
  ]
  ids = [str(row['image_id']) for row in rows]
  texts += ['A dog.'] * (len(ids) - len(texts))
  answers = [
    {'id': i, 'answer': text} for i, text in zip(ids, texts, strict=True)
  ]
  got = objhal.score(answers, questions, truth=truth)
  assert got['metrics']['empty']['value'] == pytest.approx(1 / len(ids))
  assert got['metrics']['foreign']['value'] == pytest.approx(2 / len(ids))
  assert got['answers'][3]['counts']['mention'][1] == 17_000
  assert [w.split(':')[0] for w in got['warnings'][:2]] == [
    f'1 of {len(ids)} answers are empty',
    f'2 of {len(ids)} answers are in another language than the benchmark reads',
  ]


def test_questions_bring_their_pictures_and_bad_files_are_named(bench):
  rows, questions, truth = bench
  first, *_ = objhal.questions(questions)
  assert first['image'] == b'a picture'
  assert first['question'] == rows[0]['question']
  with pytest.raises(ValueError, match='nothing is known of 1 of'):
    coco.pictures(truth, ['1'])
  with questions.open('a') as file:
    file.write('{"image_id": 7, "question": "what?"}\n')
  with pytest.raises(ValueError, match=f'record {len(rows) + 1}: KeyError'):
    objhal.questions(questions)
  with questions.open('a') as file:
    file.write('{"image_id"')
  with pytest.raises(ValueError, match=f'line {len(rows) + 2}: not JSON'):
    objhal.questions(questions)
