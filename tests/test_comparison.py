"""report: models side by side, with what changed and what papers say."""

import re
import shutil

import numpy as np
import pytest
from runs import run

from rlhfv_jax import files
from rlhfv_jax.__main__ import main
from rlhfv_jax.benchmarks import playroom, pope
from rlhfv_jax.evaluate import prepare
from rlhfv_jax.playroom.captions import true_caption
from rlhfv_jax.playroom.scene import World, from_record
from rlhfv_jax.report import comparison, results

N = 60


def evaluation(folder, said, *, path=None, judge='', benchmark='pope', **more):
  """An evaluation's folder, with pope's or the playroom's real scores."""
  score = {'pope': pope.score, 'playroom': playroom.score}[benchmark]
  result = score(said, path)
  result['settings'] |= {'judge': judge} if judge else {}
  given = {
    'n': len(said), 'judge': judge or 'none', 'leaks': [],
    'decoding': {'max_new': 8, 'temperature': 0.0},
    'data': {'path': {'path': str(path), 'hash': 'feed'}},
  }  # fmt: skip
  files.write_lines(
    folder / f'answers/{benchmark}.jsonl',
    [{**row, 'question': f'question {row["id"]}'} for row in said],
  )
  content = {'version': results.VERSION, 'benchmarks': {
    benchmark: {**result, **given}}} | more  # fmt: skip
  files.write_json(folder / 'results.json', content)
  return folder / 'results.json'


@pytest.fixture
def asked(tmp_path):
  path = tmp_path / 'coco_pope_random.json'
  files.write_lines(path, [
    {'question_id': i, 'image': f'{i}.jpg', 'text': 'is there a cat?',
     'label': ('yes', 'no')[i % 2]}
    for i in range(N)
  ])  # fmt: skip
  return path


@pytest.fixture
def two(tmp_path, asked):
  """A model that always says yes, and one that mends twenty of these."""
  said = [{'id': f'random/{i}', 'answer': 'yes'} for i in range(N)]
  mended = [
    {**row, 'answer': 'no'} if i % 2 and i < 40 else row
    for i, row in enumerate(said)
  ]
  return [
    evaluation(tmp_path / name, answers, path=asked)
    for name, answers in (('A', said), ('B', mended))
  ]


def test_differences_and_changes_are_those_that_were_made(two):
  (table,) = comparison.tables(results.read(two))
  lines = {line.name: line for line in table.lines}
  accuracy = lines['accuracy/random']
  assert [v['value'] for v in accuracy.values] == pytest.approx(
    [0.5, 0.5 + 20 / N]
  )
  (change,) = accuracy.changes
  assert change['difference'] == pytest.approx(20 / N)
  assert (change['up'], change['down'], change['same']) == (20, 0, N - 20)
  assert change['low'] > 0
  assert [e.name for e in table.entries] == ['A', 'B']


def test_the_terminal_and_the_page_say_it(two, tmp_path, capsys):
  out = tmp_path / 'page.html'
  main(['report', *map(str, two), f'--out={out}', '--all'])
  told = capsys.readouterr().out
  (line,) = [x for x in told.splitlines() if x.startswith('accuracy/random')]
  assert re.search(r'50\.0 \[.*83\.3 \[.*\+33\.3\* \[\+.*20 +0 +40', line)
  assert 'LLaVA-RLHF 13B' in told and 'Volcano (arXiv 2311.07362)' in told
  assert 'judge: none' in told and 'greedy, at most 8 tokens' in told
  page = out.read_text()
  assert re.search('accuracy better with B, .*50.0.* to .*83.3 %', page)
  assert '<svg' in page and 'question random/1<' in page
  assert '20 answers whose accuracy changed' in page
  assert not re.search(r'(src|href)="http', page)


def test_without_out_nothing_is_written(two, tmp_path):
  before = set(tmp_path.rglob('*'))
  main(['report', *map(str, two)])
  assert set(tmp_path.rglob('*')) == before


def test_other_settings_stand_beside_and_are_not_subtracted(
  two, tmp_path, asked, capsys
):
  said = [{'id': f'random/{i}', 'answer': 'no'} for i in range(N)]
  other = evaluation(tmp_path / 'C', said, path=asked, judge='gpt-9')
  main(['report', str(two[0]), str(other)])
  told = capsys.readouterr().out
  assert 'A and C are not compared: settings differ' in told
  assert '+' not in told.split('reported in')[0].split('note')[0]


def test_other_questions_are_named(two, tmp_path, capsys):
  few = tmp_path / 'few_random.json'
  files.write_lines(
    few, files.read_lines(tmp_path / 'coco_pope_random.json')[1:]
  )
  said = [{'id': f'random/{i}', 'answer': 'no'} for i in range(1, N)]
  other = evaluation(tmp_path / 'C', said, path=few)
  main(['report', str(two[0]), str(other)])
  assert '1 only in the first (random/0)' in capsys.readouterr().out


@pytest.mark.parametrize(
  'content, says',
  [
    (
      {'version': 0, 'benchmarks': {'pope': {}}},
      'is of version 0 .* version 1',
    ),
    ({'version': 1, 'benchmarks': {'pope': {}}}, 'pope lacks answers, metrics'),
    ({'hello': 1}, 'neither "benchmarks" nor "models"'),
    ([], 'neither "benchmarks" nor "models"'),
  ],
)
def test_strange_results_are_refused(tmp_path, content, says, capsys):
  path = tmp_path / 'results.json'
  files.write_json(path, content)
  with pytest.raises(SystemExit):
    main(['report', str(path), str(path)])
  assert re.search(says, capsys.readouterr().err)


def test_what_is_not_there_or_not_json_is_named(tmp_path, capsys):
  for path in (tmp_path / 'none.json', tmp_path):
    with pytest.raises(SystemExit):
      main(['report', str(path)])
  (tmp_path / 'results.json').write_text('{"models":')
  with pytest.raises(SystemExit):
    main(['report', str(tmp_path / 'results.json')])
  told = capsys.readouterr().err
  assert 'none.json is not there' in told and 'has no results.json' in told
  assert 'not JSON' in told


def test_results_of_another_scoring_are_not_compared(two, capsys):
  old = files.read_json(two[1])
  old['benchmarks']['pope']['version'] = 0
  files.write_json(two[1], old)
  main(['report', *map(str, two)])
  assert 'results of versions 1 and 0' in capsys.readouterr().out


@pytest.fixture
def trained(tmp_path):
  """A training run's folder: a base that is silent, a model that is right."""
  folder = tmp_path / 'run'
  rows = prepare(folder / 'truth', World(), 'test', 12, seed=0)
  for model in ('base', 'ddpo'):
    for task, records in rows.items():
      name = model if task == 'describe' else f'{model}-{task}'
      files.write_lines(folder / f'answers/{name}.jsonl', [
        {'id': r['id'], 'question': r['question'],
         'answer': _said(r) if model == 'ddpo' else 'there is a tree.'}
        for r in records
      ])  # fmt: skip
  one = {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 12}
  files.write_json(folder / 'results.json', {
    'models': {'base': {'hallucination': one}, 'ddpo': {'hallucination': one}},
    'decoding': {'max_new': 56, 'temperature': 0.0},
  })  # fmt: skip
  return folder


def _said(record):
  return record.get('answer') or true_caption(from_record(record))


def test_a_training_run_is_compared_with_its_base_answer_by_answer(
  trained, tmp_path, capsys
):
  out = tmp_path / 'page.html'
  main(['report', str(trained / 'results.json'), f'--out={out}'])
  told = capsys.readouterr().out
  assert 'run base' in told and 'run ddpo' in told
  (table,) = comparison.tables(results.read([trained / 'results.json']))
  lines = {line.name: line for line in table.lines}
  assert lines['vqa'].values[1]['value'] == 1
  assert lines['hallucination'].values[1]['value'] == 0
  assert lines['hallucination'].changes[0]['down'] > 0
  page = out.read_text()
  assert 'data:image/png' in page and '<mark' in page


def test_two_runs_are_compared_by_what_they_trained(trained, tmp_path):
  shutil.copytree(trained, tmp_path / 'again')
  paths = [trained / 'results.json', tmp_path / 'again/results.json']
  entries = results.read(paths)
  assert [e.name for e in entries] == ['run ddpo', 'again ddpo']
  (table,) = comparison.tables(entries)
  assert {c['same'] for line in table.lines for c in line.changes if c} == {
    c['n'] for line in table.lines for c in line.changes if c
  }


def test_names_are_as_long_as_they_must_be(two, tmp_path):
  shutil.copytree(two[0].parent, tmp_path / 'deep/A')
  names = [e.name for e in results.read([two[0], tmp_path / 'deep/A'])]
  assert names[0].endswith('/A') and names[1] == 'deep/A'
  names = [e.name for e in results.read([two[0], two[0]])]
  assert names == ['A', 'A#2']


def test_spread_over_runs_of_a_judge_is_shown():
  metric = comparison.findings.describe('score')
  given = {'value': 2.0, 'low': 1.5, 'high': 2.5, 'n': 9, 'spread': 0.125}
  assert comparison.value(metric, given) == '2 [1.5, 2.5] ±0.125'


def test_many_models_stand_in_one_table(two, tmp_path, asked):
  rng = np.random.default_rng(0)
  more = [
    evaluation(
      tmp_path / f'M{k}',
      [{'id': f'random/{i}', 'answer': str(rng.choice(['yes', 'no']))}
       for i in range(N)],
      path=asked,
    )
    for k in range(3)
  ]  # fmt: skip
  (table,) = comparison.tables(results.read([*two, *more]))
  assert all(len(line.changes) == 4 for line in table.lines)
  told = comparison.text(table)
  assert [told.count(f'M{k} - A') for k in range(3)] == [1, 1, 1]


@pytest.mark.slow
def test_a_finished_run_is_told_again(finished, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(finished[0], folder)
  page = (folder / 'report.html').read_text()
  (folder / 'report.html').unlink()
  code, out = run('report', str(folder), module=['-m', 'rlhfv_jax'])
  assert code == 0, out
  assert (folder / 'report.html').read_text() == page


def test_runs_of_several_seeds_are_one_table(finished, tmp_path, capsys):
  first, other = finished[0], tmp_path / 'other'
  shutil.copytree(first, other)
  kept = files.read_json(other / 'config.json')
  results = files.read_json(first / 'results.json')

  def told(change, hallucination=0.5):
    config = kept['config'] | change
    files.write_json(other / 'config.json', kept | {'config': config})
    ddpo = results['models']['ddpo']
    ddpo = ddpo | {'hallucination': {'value': hallucination}}
    files.write_json(
      other / 'results.json', results | {'models': {'ddpo': ddpo}}
    )
    main(['report', '--seeds', str(first), str(other)])
    return capsys.readouterr()

  value = results['models']['ddpo']['hallucination']['value']
  table = told({'seed': 1}, 1 - value).out
  (ddpo,) = [row for row in table.splitlines() if row.startswith('| ddpo')]
  assert ddpo.startswith('| ddpo | 50.0 [') and ddpo.endswith('| 2 |')
  for change, says in (
    ({}, 'a run with seed 0 already'),
    ({'seed': 1, 'name': 'x'}, 'differ in more than their seed'),
  ):
    with pytest.raises(SystemExit):
      told(change)
    assert says in capsys.readouterr().err
  (other / 'done.json').unlink()
  with pytest.raises(SystemExit):
    told({'seed': 1})
  assert 'is no finished run' in capsys.readouterr().err
