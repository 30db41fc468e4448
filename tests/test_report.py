"""The report says what the numbers say, all of it, and nothing from outside."""

import io
import re
from html import unescape

import numpy as np
import pytest
from pages import Reader
from PIL import Image

from rlhfv_jax import files, report
from rlhfv_jax.report import findings, plots
from rlhfv_jax.report.diagnosis import diagnose

_CATEGORIES = ('object', 'attribute', 'position', 'number')
_HOSTILE = '<script>alert("$x$ & \'y\'")</script>'


def measured(value, *, half=0.02, n=512):
  return {'value': value, 'low': value - half, 'high': value + half, 'n': n}


def outcome(**models):
  return {'models': {m: {'hallucination': s} for m, s in models.items()}}


def _full_results():
  rng, models = np.random.default_rng(0), {}
  for model, rate in dict(base=0.645, ddpo=0.15, dpo=0.168, sft=0.127).items():
    models[model] = {
      'hallucination': measured(rate),
      'mention': measured(rate / 4),
      'coverage': measured(0.9 + rate / 50),
      'length': measured(21.5 + rate, half=0.9),
      'vqa': measured(0.87),
      'vqa/yesno': measured(0.91),
      'unseen/hallucination': measured(rate * 1.1),
      'mmhal/score': measured(2.31 + rate, half=0.2, n=96),
    }
    for family in ('hallucination', 'mention'):
      for category in _CATEGORIES:
        name = f'{family}/{category}'
        models[model][name] = measured(rate * rng.uniform(0.05, 0.7))
  return {
    'run': {'experiment': 'ddpo', 'seed': 17, 'revision': 'abc1234'},
    'prompt': 'playroom',
    'decoding': {'max_new': 56, 'temperature': 0.0},
    'judge': 'every claim held against the scene',
    'data': {'hash': 'feedbeef', 'n': 512},
    'models': models,
  }


def _metrics(steps, names):
  rng = np.random.default_rng(1)
  rows = []
  for step in range(0, steps + 1, 10):
    row = {name: float(rng.normal()) for name in names}
    rows.append({'step': step, 'learning_rate': 1e-4} | row)
    if step % 50 == 0:
      rows.append({'step': step} | {f'eval_{k}': v for k, v in row.items()})
  return rows


def _answers(seed, n=40):
  rng = np.random.default_rng(seed)
  rows = []
  for i in range(n):
    answer = 'there is a red cup. there is a blue ball.'
    spans = [[11, 18, 'object']] if rng.random() < 0.5 else []
    row = {'id': f'scene-{i}', 'question': 'what can you see?'}
    rows.append(row | {'answer': answer, 'spans': spans})
  return rows


def picture_of(id):
  out = io.BytesIO()
  Image.new('RGB', (8, 8), (40 * len(id), 90, 120)).save(out, 'PNG')
  return out.getvalue()


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A whole run, with hostile texts where people and models write."""
  folder = tmp_path_factory.mktemp('run')
  results = _full_results()
  results['models'][_HOSTILE] = results['models']['sft']
  files.write_json(folder / 'results.json', results | {'judge': _HOSTILE})
  config = {
    'config': {'seed': 17, 'note': _HOSTILE},
    'versions': {'jax': '1.2'},
  }
  files.write_json(folder / 'config.json', config)
  pair = [
    'loss', 'rewards/margins', 'rewards/margins_corrected',
    'rewards/margins_unchanged', 'rewards/chosen', 'rewards/rejected',
    'rewards/accuracies', 'logps/chosen', 'logps/rejected', 'grad_norm',
  ]  # fmt: skip
  files.write_lines(folder / 'metrics.jsonl', _metrics(400, pair))
  files.write_lines(folder / 'base' / 'metrics.jsonl', _metrics(600, ['loss']))
  for seed, model in enumerate(('base', 'ddpo')):
    rows = _answers(seed)
    rows[0] |= {'answer': _HOSTILE, 'spans': [[3, 9, _HOSTILE]]}
    files.write_lines(folder / 'answers' / f'{model}.jsonl', rows)
  report.write(folder, pictures=picture_of)
  return folder


@pytest.fixture(scope='module')
def html(workdir):
  return (workdir / 'report.html').read_text('utf-8')


def test_the_page_is_well_formed(html):
  assert Reader(html).open == []


def test_every_model_and_metric_is_there(html):
  text = unescape(html)
  results = _full_results()['models']
  for model in [*results, _HOSTILE]:
    assert f'<th scope="col">{model}</th>' in text
  for name, score in results['ddpo'].items():
    assert f'title="{name}"' in html, name
    metric = findings.describe(name)
    assert metric.label in text
    assert metric.text(score['value']) in text
    low, high = metric.text(score['low']), metric.text(score['high'])
    assert f'{low} – {high}' in text


def test_where_the_numbers_come_from_is_there(html):
  text = ' '.join(Reader(html).texts)
  for fact in ('17', 'abc1234', 'playroom', '56', 'feedbeef', '1.2'):
    assert fact in text, fact


def test_hostile_text_is_text(html):
  reader = Reader(html)
  assert 'script' not in reader.seen
  assert ''.join(reader.texts).count(_HOSTILE) >= 4


def test_nothing_comes_from_outside(html):
  reader = Reader(html)
  assert reader.links and all(re.match('data:|#', x) for x in reader.links)
  rest = re.sub(r'"data:[^"]*"', '', html)
  assert not re.search(r'https?:|//\w|@import', rest)
  assert not {'script', 'iframe', 'object', 'link'} & set(reader.seen)


def test_ids_are_unique(html):
  ids = re.findall(r'\bid="([^"]+)"', html)
  assert len(ids) == len(set(ids))
  used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html))
  assert used and {a or b for a, b in used} <= set(ids)


def test_plots_follow_the_page_and_stand_beside_it(html, workdir):
  for name in ('categories', 'curves', 'curves-base'):
    with Image.open(workdir / f'{name}.png') as picture:
      assert picture.width > 600 and picture.getpixel((0, 0))[:3] == (255,) * 3
    assert f'{name}.png' in html
  figures = ''.join(re.findall(r'<svg.*?</svg>', html, re.DOTALL))
  assert 'var(--ink)' in figures and 'var(--series-1)' in figures
  colours = set(re.findall(r'#[0-9a-f]{6}\b', figures))
  assert colours <= {'#ffffff', '#000000'}, colours


def test_a_legend_names_what_is_drawn_and_nothing_else():
  rows = [{'step': i, 'loss': 1.0, 'rewards/margins': 0.1 * i} for i in (1, 2)]
  named = [
    [text.get_text() for text in ax.get_legend().get_texts()]
    for ax in plots.curves(rows).axes
    if ax.get_legend()
  ]
  assert not any('corrected tokens' in names for names in named)
  rows = [row | {'rewards/margins_corrected': 0.2} for row in rows]
  (names,) = (
    [text.get_text() for text in ax.get_legend().get_texts()]
    for ax in plots.curves(rows).axes
    if ax.get_legend()
  )
  assert names == ['all', 'corrected tokens']


def test_what_is_wrong_with_the_curves_is_said_beside_them(tmp_path):
  sick = [
    {
      'step': k,
      'loss/dpo': 0.6931 - 0.02 * (k - 1),
      'logps/chosen': -0.3 - 0.01 * k,
    }
    for k in range(1, 9)
  ]
  healthy = [row | {'logps/chosen': -0.3} for row in sick]
  for stage, rows in (('', healthy), ('arms/sick', sick), ('base', healthy)):
    files.write_lines(tmp_path / stage / 'metrics.jsonl', rows)
  text = report.write(tmp_path).read_text('utf-8')
  stages = text.partition('id="training"')[2].split('<details')[1:]
  by_name = {re.search('<summary>([^,]+)', part)[1]: part for part in stages}
  told = diagnose(sick)
  assert len(told) == 1 and told[0] in unescape(by_name['arms/sick'])
  assert by_name['arms/sick'].startswith(' open')
  assert by_name['base'].startswith('>') and text.count('class="told"') == 1


def test_what_is_missing_is_said(tmp_path):
  text = report.write(tmp_path).read_text('utf-8')
  for sentence in (
    'Nothing has been measured yet.',
    'Nothing was evaluated.',
    'Nothing was evaluated by category.',
    'No training was logged.',
    'No answers were kept.',
    'Nothing says how this came about.',
  ):
    assert sentence in text
  assert Reader(text).open == []


def test_a_page_that_cannot_be_written_leaves_the_old_one(
  workdir, html, monkeypatch
):
  def broken(*_):
    raise OSError('disk full')

  monkeypatch.setattr('os.replace', broken)
  before = sorted(workdir.iterdir())
  with pytest.raises(OSError, match='disk full'):
    report.write(workdir)
  assert (workdir / 'report.html').read_text('utf-8') == html
  assert sorted(workdir.iterdir()) == before


def test_the_table_has_a_line_for_each_metric_and_stars_the_best():
  results = _full_results()
  lines = report.table(results).splitlines()
  assert lines[0].split() == ['base', 'ddpo', 'dpo', 'sft', 'n']
  line = next(x for x in lines if x.startswith('hallucination'))
  assert re.search(r'12\.7\* \[10\.7, 14\.7\]', line) and line.count('*') == 1
  assert any(x.startswith('mmhal/score') for x in lines)
  assert not any(x.startswith('vqa/yesno') for x in lines), 'a part of vqa'
  assert lines[-1] == findings.headline(results)


def test_a_judge_may_be_given(tmp_path):
  """`wrong` marks what the answers do not bring themselves."""
  files.write_json(tmp_path / 'results.json', outcome(base=measured(0.5)))
  files.write_lines(tmp_path / 'answers' / 'base.jsonl', _answers(0))
  page = report.write(tmp_path, wrong=lambda row: [(0, 2, 'attribute')])
  assert '<mark title="attribute"><u>' in page.read_text('utf-8')
