"""Scoring takes seconds: no benchmark without a judge is slow."""

import json
import time

import pytest

from rlhfv_jax.benchmarks import (
  amber,
  chair,
  extraction,
  hallusionbench,
  lexicon,
  llava_bench,
  manner,
  mmhal,
  objhal,
  overgeneralization,
  playroom,
  pope,
  vqa,
)
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.scene import World

TEXT = (
  'The image shows a man who rides a red bicycle down a busy street. Behind '
  'him two women wait with their dogs beside a parked car, and a bus stops at '
  "the traffic light. A child's teddy bear and three wine glasses stand on the "
  'dining table of the café; further back there are several chairs, a potted '
  'plant and, perhaps, a few knives and forks. The overall mood is calm.'
)
CAPTIONS = ['A man on a bike.', 'Two women with dogs.', 'A bus in a street.',
            'A kitchen with a sink.', 'A quiet street.']  # fmt: skip

SCENE = (
  'at the top left there are three green trees. at the top right there are '
  'two blue benches. at the middle centre there is a white ball. at the bottom '
  'centre there are two red flowers.'
)


def lines(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


@pytest.fixture(scope='module', params=[
  1000, pytest.param(10_000, marks=pytest.mark.slow),
])  # fmt: skip
def bench(request, tmp_path_factory):
  """How many, and everybody's files."""
  n, folder = request.param, tmp_path_factory.mktemp('speed')
  lines(folder / 'truth.jsonl', [
    {'image_id': i, 'objects': ['person', 'bus', 'dog'],
     'captions': [f'{caption} {i}' for caption in CAPTIONS]}
    for i in range(n)
  ])  # fmt: skip
  lines(folder / 'objhal.jsonl', [
    {'image_id': i, 'image': '', 'question': '?'} for i in range(n)
  ])  # fmt: skip
  lines(folder / 'pope_random.json', [
    {'question_id': i, 'image': '', 'text': '?', 'label': ('yes', 'no')[i % 2]}
    for i in range(n)
  ])  # fmt: skip
  rows = [{'question_id': i, 'question': '?', 'image_id': i} for i in range(n)]
  (folder / 'questions.json').write_text(json.dumps({'questions': rows}))
  people = [{'answer': ('red', 'the red one', 'dark red')[j % 3]}
            for j in range(10)]  # fmt: skip
  (folder / 'notes.json').write_text(json.dumps({'annotations': [
    {'question_id': i, 'answers': people, 'answer_type': 'other',
     'question_type': 'what'} for i in range(n)
  ]}))  # fmt: skip
  (folder / 'query').mkdir()
  (folder / 'annotations.json').write_text(json.dumps([
    {'type': 'generative', 'truth': ['man', 'bus'], 'hallu': ['dog', 'cat']}
    if i % 2 else {'type': 'relation', 'truth': 'no'} for i in range(n)
  ]))  # fmt: skip
  (folder / 'query/query_all.json').write_text(json.dumps([
    {'id': i + 1, 'query': '?', 'image': ''} for i in range(n)
  ]))  # fmt: skip
  related = {w: [] for w in ('man', 'bus', 'dog', 'cat', 'car', 'chair')}
  (folder / 'relation.json').write_text(json.dumps(related))
  (folder / 'safe_words.txt').write_text('light\n')
  lines(folder / 'hallusion.jsonl', [
    {'category': 'VD', 'subcategory': 'x', 'set_id': i // 4, 'figure_id': i % 2,
     'question_id': i // 2 % 2, 'visual_input': 1 + i % 2, 'gt_answer': i % 2,
     'question': '?', 'gt_answer_details': ''} for i in range(n)
  ])  # fmt: skip
  scenes = dataset.describe_records(World(), 'test', n, seed=0)
  lines(folder / 'scenes.jsonl', scenes)
  return n, folder


def answers(ids, text=TEXT):
  return [{'id': i, 'answer': f'{text} {i}'} for i in ids]


SCORES = {
  'chair': lambda f, ids: chair.score(answers(ids), f / 'truth.jsonl'),
  'objhal': lambda f, ids: objhal.score(
    answers(ids), f / 'objhal.jsonl', truth=f / 'truth.jsonl'
  ),
  'overgeneralization': lambda f, ids: overgeneralization.score(
    answers(ids), f / 'objhal.jsonl', truth=f / 'truth.jsonl'
  ),
  'pope': lambda f, ids: pope.score(
    answers([f'random/{i}' for i in ids], 'Yes, it is'), f / 'pope_random.json'
  ),
  'vqa': lambda f, ids: vqa.score(
    answers(ids, 'red,'), f / 'questions.json', annotations=f / 'notes.json'
  ),
  'amber': lambda f, ids: amber.score(
    answers([str(int(i) + 1) for i in ids]), f
  ),
  'hallusionbench': lambda f, ids: hallusionbench.score(
    answers(
      [q['id'] for q in hallusionbench.questions(f / 'hallusion.jsonl')], 'No'
    ),
    f / 'hallusion.jsonl',
  ),
  'playroom': lambda f, ids: playroom.score(
    answers([f'test-0-{int(i):06}' for i in ids], SCENE), f / 'scenes.jsonl'
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', SCORES)
def test_ten_thousand_answers_take_seconds(name, bench):
  n, folder = bench
  ids = [str(i) for i in range(n)]
  # The processor's time: the machine may be doing other things too.
  start = time.process_time()
  got = SCORES[name](folder, ids)
  took = time.process_time() - start
  print(f'{name}: {took:.2f} s for {n}')
  assert len(got['answers']) == n
  assert took <= min(2 + n / 1000, 10)


READERS = {
  'words': lambda text: lexicon.mentions(text, lexicon.own()),
  'language': manner.foreign,
  'vqa': vqa.normalize,
  'pope': lambda text: pope.parse(text, strict=False),
  'rating': lambda text: mmhal.rating(text, strict=False),
  'scores': lambda text: llava_bench.scores(text, strict=False),
  'list': lambda text: extraction.listed(text, strict=False),
  'verdict': lambda text: hallusionbench.verdict(text, strict=False),
}


@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize(
  'unit', ["'", '.)', '. ', "a'b", '8 ', '["a",', 'rating ', '照', 'dog. ']
)
def test_no_text_is_slow_to_read(name, unit):
  text = '8 ' + unit * (100_000 // len(unit)) + 'x'
  start = time.process_time()
  READERS[name](text)
  assert time.process_time() - start < 2
