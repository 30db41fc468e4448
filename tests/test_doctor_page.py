"""The doctor's page: whole, safe to open, and nothing found is left out."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Reader
from plants import (
  HOSTILE,
  TOKENS,
  Broken,
  benchmark_files,
  dirtied,
  pairs,
  with_question,
)

from rlhfv_jax import doctor
from rlhfv_jax.data import segments
from rlhfv_jax.data.example import Example
from rlhfv_jax.doctor import cards, problems
from rlhfv_jax.doctor.problems import NOTE

# One picture is planted because it is that large.
pytestmark = pytest.mark.filterwarnings(
  'ignore::PIL.Image.DecompressionBombWarning'
)


@pytest.fixture(scope='module')
def clean():
  return pairs(120)


@pytest.fixture(scope='module')
def report(clean, tmp_path_factory):
  dirty, folder = dirtied(clean), tmp_path_factory.mktemp('doctor')
  held = benchmark_files(dirty, tmp_path_factory.mktemp('held'))
  return doctor.check(
    Broken(dirty[0]),
    out=folder / 'dirty.html',
    name=HOSTILE,
    against=held,
    **TOKENS,
  )


@pytest.fixture(scope='module')
def html(report):
  return report.page.read_text('utf-8')


def test_the_page_is_whole_and_hostile_text_is_text(html):
  reader = Reader(html)
  assert reader.open == [] and reader.handlers == []
  assert reader.seen.count('script') == 1
  assert ''.join(reader.texts).count(HOSTILE) >= 8
  assert len(reader.ids) == len(set(reader.ids))


def test_nothing_comes_from_outside_and_one_script_may_run(html):
  reader = Reader(html)
  assert reader.links and all(re.match('data:|#', x) for x in reader.links)
  rest = re.sub(r'"data:[^"]*"', '', html)
  assert not re.search(r'https?:|@import|url\((?!#)', rest)
  script = re.search('<script>(.*?)</script>', html, re.DOTALL)[1]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  policy = re.search('Content-Security-Policy" content="([^"]*)"', html)[1]
  assert "default-src 'none'" in policy
  assert f"script-src 'sha256-{digest}'" in policy


def test_links_lead_to_rows_that_are_shown(html):
  reader = Reader(html)
  links = {link[1:] for link in reader.links if link.startswith('#row')}
  assert links and links <= set(reader.ids)


def test_every_case_is_in_the_list_and_every_kind_on_the_page(report, html):
  lines = [json.loads(line) for line in report.list.read_text().splitlines()]
  listed = [(x['kind'], x['index'], x['id'], x['detail']) for x in lines]
  cases = [(p.kind, *c) for p in report.problems for c in p.cases]
  assert listed == cases
  text, shown = report.text(), unescape(html)
  for problem in report.problems:
    line = f'{problem.level.upper():8} {problem.kind}: {problem.text}'
    assert line in text.splitlines()
    assert f'<b>{problem.kind}</b>' in shown
    assert problem.way_out in text and problem.way_out in shown


def test_no_text_of_a_row_steers_the_terminal(clean, tmp_path):
  rows = [with_question(replace(clean[0], id='\x1b[2J\ud83d'), ' ')]
  report = doctor.check(rows, out=tmp_path / 'x.html')
  assert '\ufffd[2J\ufffd' in report.text()
  assert all(c.isprintable() or c == '\n' for c in report.text())


def test_errors_come_before_warnings_before_notes(report):
  order = [problems.LEVELS.index(p.level) for p in report.problems]
  assert order == sorted(order) and set(order) == {0, 1, 2}
  assert [p.kind for p in report.of(NOTE)] == ['alike answers']


_TEXTS = st.lists(
  st.sampled_from(['a', 'red', 'cup', '.', ',', '<b>', 'two  cups']),
  max_size=12,
).map(' '.join)


def _said(html: str, without: str) -> str:
  html = re.sub(f'<{without}>.*?</{without}>|<small>.*?</small>', '', html)
  return unescape(re.sub('<[^>]*>', '', html))


@settings(deadline=None)
@given(_TEXTS, _TEXTS)
def test_a_merged_answer_reads_as_either(chosen, rejected):
  spans = segments.spans(chosen, rejected)
  text = cards.merged(chosen, rejected, *spans)
  assert _said(text, 'del') == chosen and _said(text, 'ins') == rejected


def test_spans_that_do_not_mend_are_shown_on_two_answers():
  chosen, rejected = 'a red cup', 'a blue cup and a hat'
  spans = (((2, 5, 'attribute'),), ((2, 6, 'attribute'),))
  assert cards.merged(chosen, rejected, *spans) is None
  pair = Example('x', None, (), (chosen, rejected), spans)
  html = cards.answers(pair)
  assert '<ins>red</ins><small>attribute' in html
  assert '<del>blue</del>' in html and ' cup and a hat' in html


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('chromium'), reason='needs chromium')
def test_a_browser_shows_a_dozen_rows_and_the_one_that_is_linked(report):
  def hidden(fragment):
    command = ['chromium', '--headless', '--no-sandbox', '--dump-dom']
    page = f'file://{report.page}{fragment}'
    dom = subprocess.run(
      [*command, page], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    return re.findall(r'<article[^>]* id="(row-\d+)"[^>]* hidden', dom), dom

  gone, dom = hidden('')
  rows = re.findall(r'<article[^>]* id="(row-\d+)"', dom)
  assert gone == rows[12:]
  gone, _ = hidden('#' + rows[30])
  assert gone == rows[:24] + rows[36:]
