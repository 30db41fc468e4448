"""The report says what the numbers say, all of it, and nothing from outside."""

import io
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax import files, report
from rlhfv_jax.report import findings
from rlhfv_jax.report.diagnosis import diagnose
from rlhfv_jax.report.gallery import gallery, marked

_CATEGORIES = ('object', 'attribute', 'position', 'number')
_HOSTILE = '<script>alert("$x$ & \'y\'")</script>'


def _score(value, *, half=0.02, n=512):
  return {'value': value, 'low': value - half, 'high': value + half, 'n': n}


def _results(**models):
  return {'models': {m: {'hallucination': s} for m, s in models.items()}}


def _full_results():
  rng, models = np.random.default_rng(0), {}
  for model, rate in dict(base=0.645, ddpo=0.15, dpo=0.168, sft=0.127).items():
    models[model] = {
      'hallucination': _score(rate),
      'mention': _score(rate / 4),
      'coverage': _score(0.9 + rate / 50),
      'length': _score(21.5 + rate, half=0.9),
      'vqa': _score(0.87),
      'vqa/yesno': _score(0.91),
      'unseen/hallucination': _score(rate * 1.1),
      'mmhal/score': _score(2.31 + rate, half=0.2, n=96),
    }
    for family in ('hallucination', 'mention'):
      for category in _CATEGORIES:
        name = f'{family}/{category}'
        models[model][name] = _score(rate * rng.uniform(0.05, 0.7))
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


def _picture(id):
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
  report.write(folder, pictures=_picture)
  return folder


@pytest.fixture(scope='module')
def html(workdir):
  return (workdir / 'report.html').read_text('utf-8')


class _Reader(HTMLParser):
  """Collects the tags that stay open, the links and the visible text."""

  VOID = ('meta', 'img', 'br', 'link', 'input')

  def __init__(self, html):
    super().__init__()
    self.open, self.seen, self.links, self.texts = [], [], [], []
    self.feed(html)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in self.VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, f'</{tag}> closes another'

  def handle_data(self, data):
    if self.open and self.open[-1] != 'style':
      self.texts.append(data)


def test_the_page_is_well_formed(html):
  assert _Reader(html).open == []


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
  text = ' '.join(_Reader(html).texts)
  for fact in ('17', 'abc1234', 'playroom', '56', 'feedbeef', '1.2'):
    assert fact in text, fact


def test_hostile_text_is_text(html):
  reader = _Reader(html)
  assert 'script' not in reader.seen
  assert ''.join(reader.texts).count(_HOSTILE) >= 4


def test_nothing_comes_from_outside(html):
  reader = _Reader(html)
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
  assert _Reader(text).open == []


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


# The headline.


@given(st.floats(0.3, 0.9), st.floats(0.01, 0.2))
def test_the_headline_repeats_the_results(before, after):
  text = findings.headline(_results(base=_score(before), ddpo=_score(after)))
  numbers = [float(x) for x in re.findall(r'([\d.]+) %', text)]
  want = [100 * before, 100 * after]
  np.testing.assert_allclose(numbers[:2], want, rtol=0, atol=0.0501)
  assert abs(numbers[2] - 100 * (1 - after / before)) <= 0.5
  assert 'fell from' in text and 'with ddpo' in text and 'n = 512' in text


@given(st.floats(0.1, 0.4), st.floats(0.0, 0.4))
def test_no_improvement_is_called_none(before, worse):
  after = before + worse
  text = findings.headline(_results(base=_score(before), ddpo=_score(after)))
  assert text.startswith('ddpo did not improve hallucinating answers')
  assert f'{100 * before:.1f} % to {100 * after:.1f} %' in text
  assert 'fell' not in text


def test_overlapping_intervals_are_called_chance():
  text = findings.headline(_results(base=_score(0.20), ddpo=_score(0.18)))
  assert 'it may be chance' in text and 'fell' not in text


def test_the_price_is_named():
  results = _results(base=_score(0.6), ddpo=_score(0.1))
  results['models']['base']['coverage'] = _score(0.9)
  results['models']['ddpo']['coverage'] = _score(0.7)
  price = 'The price: things there that are mentioned went from 90.0 to 70.0 %.'
  assert price in findings.headline(results)
  results['models']['ddpo']['coverage'] = _score(0.89)
  assert 'Nothing else that was measured' in findings.headline(results)


def test_a_better_rival_is_named():
  models = dict(base=_score(0.6), ddpo=_score(0.2), sft=_score(0.1))
  assert 'sft does better: 10.0 %.' in findings.headline(_results(**models))
  models['sft'] = _score(0.3)
  assert 'sft' not in findings.headline(_results(**models))


def test_one_model_alone_and_one_without_an_interval():
  alone = findings.headline(_results(base=_score(0.6)))
  assert alone == 'Hallucinating answers: 60.0 % with base.'
  bare = _results(base={'value': 0.6}, ddpo={'value': 0.5})
  assert 'fell from 60.0 % to 50.0 %' in findings.headline(bare)


# The table and the gallery.


def test_the_table_has_a_line_for_each_metric_and_stars_the_best():
  results = _full_results()
  lines = report.table(results).splitlines()
  assert lines[0].split() == ['base', 'ddpo', 'dpo', 'sft', 'n']
  line = next(x for x in lines if x.startswith('hallucination'))
  assert re.search(r'12\.7\* \[10\.7, 14\.7\]', line) and line.count('*') == 1
  assert any(x.startswith('mmhal/score') for x in lines)
  assert not any(x.startswith('vqa/yesno') for x in lines), 'a part of vqa'
  assert lines[-1] == findings.headline(results)


_SPANS = st.lists(
  st.tuples(st.integers(0, 20), st.integers(1, 10), st.sampled_from('ab<'))
)


@given(st.text(max_size=20), _SPANS)
def test_marks_cover_the_spans_and_change_no_character(text, drawn):
  spans = [(s, min(s + n, len(text)), c) for s, n, c in drawn if s < len(text)]
  said, names = [], ''
  for part in re.split('(<[^>]*>)', marked(text, spans)):
    if part.startswith('<'):
      opened = re.search('title="([^"]*)"', part)
      names = unescape(opened[1]) if opened else names * (part == '<u>')
    else:
      said += [(character, names) for character in unescape(part)]
  assert ''.join(character for character, _ in said) == text
  for i, (_, names) in enumerate(said):
    over = {c for start, end, c in spans if start <= i < end}
    assert set(names.split(', ')) == (over or {''})


def test_answers_are_grouped_by_what_became_of_them():
  wrong, right = [[0, 3, 'object']], []
  fates = [(wrong, right)] * 9 + [(wrong, wrong)] * 2 + [(right, wrong)]
  answers = {'base': [], 'ddpo': []}
  for i, spans in enumerate(fates):
    for model, its in zip(answers, spans, strict=True):
      row = {'id': str(i), 'question': '?', 'answer': 'a cup.'}
      answers[model].append(row | {'spans': its})
  text = gallery(answers, _picture, examples=3)
  assert re.findall(r'<h3>(.*?)</small>', text) == [
    'Mended <small>9 of 12',
    'Still wrong <small>2 of 12',
    'Newly wrong <small>1 of 12',
  ]
  assert text.count('<article') == text.count('<img') == 3 + 2 + 1


def test_a_judge_may_be_given(tmp_path):
  """`wrong` marks what the answers do not bring themselves."""
  files.write_json(tmp_path / 'results.json', _results(base=_score(0.5)))
  files.write_lines(tmp_path / 'answers' / 'base.jsonl', _answers(0))
  page = report.write(tmp_path, wrong=lambda row: [(0, 2, 'attribute')])
  assert '<mark title="attribute"><u>' in page.read_text('utf-8')
