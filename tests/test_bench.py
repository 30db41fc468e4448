"""Benchmarks from a model's folder to results.json, through every stage."""

import inspect
import io
import json
import shutil

import jax
import numpy as np
import pytest
from judges import serving
from PIL import Image

from configs import evaluate
from rlhfv_jax import files, models, sharding, stages
from rlhfv_jax.checkpoint import save_params
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import tokenizer
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.formats import examples
from rlhfv_jax.playroom import language
from rlhfv_jax.stages import bench, choice


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
  """What an import says of a model that is small; not the parameters."""
  folder = tmp_path_factory.mktemp('weights')
  words = tokenizer.word_tokenizer(language.vocabulary())
  tokenizer.save(words, folder / 'tokenizer')
  model = evaluate.get_config('playroom,small').model.to_dict()
  about = workdir.About(model, 'playroom', 'squash', tokenizer='tokenizer')
  files.write_json(folder / workdir.NOTE, vars(about))
  return folder


@pytest.fixture(scope='session')
def whole(weights):
  """The parameters too: of a model that knows nothing."""
  model = evaluate.get_config('playroom,small').model.to_dict()
  model = models.build(model | {'image_token': 3})
  save_params(weights / 'params', models.init(model, jax.random.key(0)))
  return weights


def picture(seed):
  out, rng = io.BytesIO(), np.random.default_rng(seed)
  Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(out, 'JPEG')
  return out.getvalue()


@pytest.fixture
def official(tmp_path):
  """Small files in the forms of the official ones, made up here."""
  folder = tmp_path / 'benchmarks'
  (folder / 'images').mkdir(parents=True)
  for i in range(3):
    (folder / f'images/p{i}.jpg').write_bytes(picture(i))
  (folder / 'pope').mkdir()
  for split in ('random', 'popular', 'adversarial'):
    files.write_lines(folder / f'pope/coco_pope_{split}.json', [
      {'question_id': i, 'image': f'p{i % 3}.jpg', 'label': label,
       'text': 'is there a cup in the picture?'}
      for i, label in enumerate(['yes', 'no'] * 2)
    ])  # fmt: skip
  files.write_json(folder / 'mmhal.json', [
    {'image_id': f'p{i}', 'image_src': f'http://x/p{i}.jpg', 'gt_answer': 'red',
     'image_content': ['cup'], 'question': 'what colour is the cup?'}
    for i in range(3)
  ])  # fmt: skip
  return folder


def config(weights, official, *, benchmarks='pope,mmhal', **judge):
  c = evaluate.get_config('playroom,small')
  c.init, c.files, c.benchmarks = str(weights), str(official), benchmarks
  c.evaluate.update({'scenes': 4, 'batch': 8, 'max_new': 4})
  c.judge.update({'model': 'gpt-4', 'retries': 1, 'backoff': 0.01} | judge)
  return c.lock()


def run(c, folder):
  mesh = sharding.make_mesh((1, -1, 1))
  with jax.set_mesh(mesh):
    stages.run(c, folder, mesh)
  return files.read_json(folder / 'results.json')


def test_from_weights_to_numbers_that_say_how_they_came_about(
  whole, official, tmp_path, capsys
):
  names, folder = ('pope', 'mmhal', 'playroom'), tmp_path / 'run'
  with serving(model='gpt-4-0613') as server:
    c = config(whole, official, benchmarks=','.join(names), url=server.url)
    made = run(c, folder)
    said = {p: p.stat().st_mtime_ns for p in folder.glob('answers/*')}
    asked = len(server.bodies)
    # Again: nobody answers, nobody judges, the numbers are the same.
    (folder / 'results.json').unlink()
    assert run(c, folder) == made
  assert len(server.bodies) == asked
  assert said == {p: p.stat().st_mtime_ns for p in folder.glob('answers/*')}
  pope, mmhal, playroom = (made['benchmarks'][name] for name in names)
  assert made['prompt'] == 'playroom' and made['run']['model'] == str(whole)
  asked = [files.read_lines(p) for p in sorted(folder.glob('truth/*'))]
  assert (pope['n'], mmhal['n']) == (12, 3)
  assert playroom['n'] == sum(map(len, asked)) > 8
  for result in (pope, mmhal, playroom):
    assert result['decoding']['max_new'] == 4
    assert len(result['data']['path']['hash']) == 16
    for name, given in result['metrics'].items():
      assert {'value', 'low', 'high', 'n'} <= set(given), name
  assert pope['judge'] == 'none' and playroom['judge'] == 'the scenes'
  assert mmhal['metrics']['score']['value'] == 4
  assert mmhal['settings']['judge'] == mmhal['judge']['model'] == 'gpt-4'
  assert set(mmhal['judge']['served'][0]) == {'gpt-4-0613'}
  assert playroom['metrics']['hallucination']['n'] == 4
  assert playroom['metrics']['vqa']['n'] == len(asked[0])
  out = capsys.readouterr().out
  assert 'LLaVA-RLHF 13B' in out and 'gpt-4-0314' in out
  page = (folder / 'report.html').read_text()
  assert all(f'id="{name}"' in page for name in names)
  assert 'data:image/png' in page


def prepared(weights, official, tmp_path, **judge):
  """A run whose answers are there: our prompt ends in the answer, which tells
  the server what to do."""
  c, folder = config(weights, official, **judge), tmp_path / 'run'
  c.unlock().update({'stages': ('score',), 'benchmarks': 'mmhal'})
  give(folder, ['ok', 'refuse', 'half'])
  return c.lock(), folder


def give(folder, answers):
  files.write_lines(
    folder / 'answers/mmhal.jsonl',
    [{'id': f'p{i}', 'question': 'q', 'answer': a}
     for i, a in enumerate(answers)],
  )  # fmt: skip


def test_what_the_judge_does_not_say_is_in_no_average(
  weights, official, tmp_path
):
  with serving() as server:
    made = run(*prepared(weights, official, tmp_path, url=server.url))
  found = made['benchmarks']['mmhal']
  assert found['metrics']['score']['value'] == 4
  assert found['metrics']['score']['n'] == 1
  assert found['metrics']['unjudged']['value'] == pytest.approx(2 / 3)
  assert found['judge']['left out'] == [
    {
      'p1': 'the judge refused: No way',
      'p2': 'the reply ends in the middle (give it more tokens: judge.options)',
    }
  ]
  assert any('the judge refused: p1' in w for w in found['warnings'])


def test_runs_of_the_judge_are_averaged_with_their_spread(
  weights, official, tmp_path
):
  with serving() as server:
    c, folder = prepared(weights, official, tmp_path, url=server.url, runs=3)
    give(folder, ['mood'] * 3)
    made = run(c, folder)
  found = made['benchmarks']['mmhal']
  score = found['metrics']['score']
  assert score['runs'] == [1, 2, 3]
  assert score['value'] == 2 and score['spread'] == 1
  assert len(found['judge']['served']) == 3 and found['runs'] == 3


def test_batch_files_instead_of_a_server(weights, official, tmp_path):
  batch = tmp_path / 'batch'
  c, folder = prepared(weights, official, tmp_path, batch=str(batch))
  with pytest.raises(ValueError, match='hand in .*requests-mmhal-0.jsonl'):
    run(c, folder)
  message = {'content': 'Rating: 2'}
  files.write_lines(batch / 'back.jsonl', [
    {'custom_id': line['custom_id'], 'response': {'status_code': 200, 'body': {
      'model': 'gpt-4', 'choices': [{'message': message}]}}}
    for line in files.read_lines(batch / 'requests-mmhal-0.jsonl')
  ])  # fmt: skip
  made = run(c, folder)
  assert made['benchmarks']['mmhal']['metrics']['score']['value'] == 2


def test_pictures_that_were_trained_on_are_listed(weights, official, tmp_path):
  trained = tmp_path / 'trained.parquet'
  examples.write(trained, [
    Example('row', picture(1), (('user', 'q'),), ('a', 'b'))
  ])  # fmt: skip
  c, folder = prepared(weights, official, tmp_path)
  with serving() as server:
    c.judge.url, c.trained = server.url, str(trained)
    found = run(c, folder)['benchmarks']['mmhal']
  assert found['leaks'] == [{'id': 'p1', 'trained': 'row', 'how': 'same file'}]
  assert 'trained on: p1' in found['warnings'][-1]


@pytest.mark.parametrize(
  'change, says',
  [
    ({'benchmarks': 'pop'}, "no benchmark 'pop': did you mean pope"),
    ({'benchmarks': ' ,'}, 'config.benchmarks is empty'),
    ({'init': ''}, 'say which model is measured'),
    ({'benchmarks': 'objhal,chair'},
     r'objhal.path.*objhal.truth.*chair.path'),
    ({'pope.path': 'nowhere'}, 'config.pope.path = nowhere'),
    ({'judge.model': ''}, 'mmhal: scored by a judge'),
    ({'judge.options': 'max'}, 'not JSON'),
    ({'judge.runs': 0}, 'config.judge.runs cannot be 0'),
  ],
)  # fmt: skip
def test_what_is_missing_is_told_before_anything_starts(
  weights, official, tmp_path, change, says
):
  c = config(weights, official)
  c.update_from_flattened_dict(change)
  c.unlock()
  c.stages = ('score',)
  with pytest.raises(ValueError, match=says):
    run(c.lock(), tmp_path / 'run')


def test_a_missing_picture_is_named(weights, official, tmp_path):
  (official / 'images/p2.jpg').unlink()
  with pytest.raises(ValueError, match='1 of 3 pictures are missing: p2.jpg'):
    run(config(weights, official, benchmarks='mmhal'), tmp_path)
  shutil.rmtree(official / 'images')
  with pytest.raises(ValueError, match='config.mmhal.images'):
    run(config(weights, official, benchmarks='mmhal'), tmp_path)


@pytest.mark.parametrize(
  'rows, says',
  [
    ([0, 1], '1 missing: p2'),
    ([0, 1, 2, 2], '1 doubled: p2'),
    ([0, 1, 2, 3], '1 not asked: p3'),
  ],
)
def test_answers_that_do_not_fit_are_named(
  weights, official, tmp_path, rows, says
):
  c, folder = prepared(weights, official, tmp_path)
  files.write_lines(folder / 'answers/mmhal.jsonl', [
    {'id': f'p{i}', 'question': 'q', 'answer': 'ok'} for i in rows
  ])  # fmt: skip
  with pytest.raises(ValueError, match=says):
    run(c, folder)


def test_odd_answers_are_counted(weights, official, tmp_path):
  odd = ['', 'кошка спит на столе', 'a ' * 50_000 + '\nok']
  with serving() as server:
    c, folder = prepared(weights, official, tmp_path, url=server.url)
    give(folder, odd)
    found = run(c, folder)['benchmarks']['mmhal']
  assert found['metrics']['empty']['value'] == pytest.approx(1 / 3)
  assert found['metrics']['foreign']['value'] == pytest.approx(1 / 3)
  told = '\n'.join(found['warnings'])
  assert 'are empty: p0' in told and 'another language' in told


def test_every_benchmark_can_be_chosen(weights, official):
  """The config knows them all, and every option that it has is taken."""
  c = evaluate.get_config()
  assert set(evaluate.BENCHMARKS) == set(choice.NAMES)
  for name in evaluate.BENCHMARKS:
    module = choice.Chosen(name, {}, False).module
    takes = {**inspect.signature(module.questions).parameters,
             **inspect.signature(module.score).parameters}  # fmt: skip
    if name == 'overgeneralization':
      continue
    for option in set(c[name]) - {'path', 'judged', 'max_new'}:
      assert option in takes, (name, option)


def test_official_prompts_come_from_a_folder(official, tmp_path):
  c = evaluate.get_config()
  c.files, c.benchmarks = str(official), 'mmhal'
  (tmp_path / 'mmhal.txt').write_text('{} {} {} {}')
  (mmhal,) = choice.read(c, tmp_path)
  said = [{'id': f'p{i}', 'answer': 'blue'} for i in range(3)]
  asked = mmhal.requests(said, str(tmp_path))[0]['user']
  assert asked == 'cup what colour is the cup? red blue'
  assert mmhal.requests(said)[0]['user'] != asked


def test_questions_read_their_pictures_when_asked(tmp_path):
  (tmp_path / 'p').write_bytes(b'12')
  seen = {'id': 'a', 'question': 'q', 'image_path': tmp_path / 'p'}
  rows = bench.Questions([seen, {'id': 'b', 'question': 'r'}])
  assert [row.image for row in rows] == [b'12', None]
  assert rows[0].turns == (('user', 'q'),)
  assert json.dumps([row.id for row in rows]) == '["a", "b"]'
