"""The doctor finds every planted trouble, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pages import Reader
from PIL import Image
from plants import (
  BUCKETS,
  CLEAN,
  HOSTILE,
  TOKENIZER,
  TOKENS,
  Broken,
  benchmark_files,
  dirtied,
  encoded,
  pairs,
  with_answers,
)

from rlhfv_jax import doctor
from rlhfv_jax.data import sources
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.doctor.problems import ERROR, KINDS, WARNING

# One picture is planted because it is that large.
pytestmark = pytest.mark.filterwarnings(
  'ignore::PIL.Image.DecompressionBombWarning'
)


@pytest.fixture(scope='module')
def clean():
  return pairs(120)


@pytest.fixture(scope='module')
def dirty(clean):
  return dirtied(clean)


@pytest.fixture(scope='module')
def held(dirty, tmp_path_factory):
  return benchmark_files(dirty, tmp_path_factory.mktemp('held'))


@pytest.fixture(scope='module')
def source(dirty):
  return Broken(dirty[0])


@pytest.fixture(scope='module')
def report(source, held, tmp_path_factory):
  out = tmp_path_factory.mktemp('doctor') / 'dirty.html'
  return doctor.check(source, out=out, name=HOSTILE, against=held, **TOKENS)


def kinds_of(report) -> dict[int, set[str]]:
  found = {}
  for problem in report.problems:
    for case in problem.cases:
      found.setdefault(case.index, set()).add(problem.kind)
  return found


def test_every_planted_row_is_found_and_no_other(report, dirty):
  assert kinds_of(report) == {i: {kind} for i, kind in dirty[1].items()}


def test_every_kind_is_planted(dirty):
  alone = {'no rows', 'unreadable file', 'longer than the model takes'}
  alone |= {'prompt and answer joined'}  # by the encoder's tests
  assert set(dirty[1].values()) - {HOSTILE} == KINDS.keys() - alone


def test_errors_are_what_training_refuses_and_what_only_the_doctor_knows(
  report, source
):
  """But for rows that no encoder may meet: other counts of answers."""
  strange = ('answers a row', 'no answer')
  aside = {c.index for p in report.problems if p.kind in strange
           for c in p.cases}  # fmt: skip
  readable = [
    i
    for i, row in enumerate(source.rows)
    if isinstance(row, Example) and i not in aside
  ]
  rows = encode_all([source.rows[i] for i in readable], **TOKENS)
  refused = {readable[row.index] for row in rows.rejected}
  errors = {c.index for p in report.of(ERROR) for c in p.cases
            if p.kind != 'evaluation picture'}  # fmt: skip
  assert refused == errors & set(readable)


def test_without_a_tokenizer_all_is_found_that_texts_show(
  source, dirty, held, tmp_path
):
  report = doctor.check(source, out=tmp_path / 'x.html', against=held)
  need_tokens = {
    'unknown word', 'special token in the text',
    'prompt longer than every bucket', 'answers longer than every bucket',
  }  # fmt: skip
  assert kinds_of(report) == {
    i: {kind} for i, kind in dirty[1].items() if kind not in need_tokens
  }
  assert report.summary.unit == 'words'


def test_a_clean_set_is_safe_and_nothing_is_said_of_it(clean, tmp_path):
  report = doctor.check(clean[:CLEAN], out=tmp_path / 'x.html', **TOKENS)
  assert report.problems == () and report.safe
  assert report.summary.usable == report.summary.pairs == CLEAN
  assert f'Safe to train on: {CLEAN} rows.' in report.text()
  assert report.list.read_text() == ''


def test_errors_make_a_set_unsafe_and_warnings_do_not(report, clean, tmp_path):
  assert not report.safe
  assert report.headline.startswith('Not safe to train on: ')
  warned = [replace(clean[0], image=None), *clean[1:4]]
  mild = doctor.check(warned, out=tmp_path / 'x.html')
  assert [p.level for p in mild.problems] == [WARNING] and mild.safe
  assert '1 kind of warning' in mild.headline


@pytest.mark.parametrize('rows', [[], [RowError('empty', 'all of it')]])
def test_a_set_without_a_row_to_train_on_is_unsafe(rows, tmp_path):
  report = doctor.check(Broken(rows), out=tmp_path / 'x.html', **TOKENS)
  assert not report.safe
  assert 'no rows' in {p.kind for p in report.problems}
  assert Reader(report.page.read_text()).open == []


def test_demonstrations_are_a_set_too(clean, tmp_path):
  rows = [replace(p, answers=p.answers[:1], spans=None) for p in clean[:6]]
  tokens = TOKENS | {'buckets': [(128, 0, 1)]}
  report = doctor.check(rows, out=tmp_path / 'x.html', **tokens)
  assert report.problems == () and '6 demonstrations' in report.text()
  with pytest.raises(ValueError, match='another number of answers'):
    doctor.check(rows, out=tmp_path / 'x.html', **TOKENS)


def test_rows_longer_than_the_model_takes_are_named(clean, tmp_path):
  whole = encode_all(clean[:9], **TOKENS | {'buckets': None}).sizes
  longest = (whole[:, :1] + whole[:, 1:]).max(axis=1)
  limit = int(np.median(longest))
  out = tmp_path / 'x.html'
  report = doctor.check(clean[:9], out=out, limit=limit, **TOKENS)
  (problem,) = report.problems
  assert problem.kind == 'longer than the model takes' and not report.safe
  over = np.flatnonzero(longest > limit).tolist()
  assert over and [case.index for case in problem.cases] == over


def test_what_goes_together_is_asked_for(clean, tmp_path):
  for some in ({'tokenizer': TOKENIZER}, {'buckets': BUCKETS}):
    with pytest.raises(ValueError, match='need both'):
      doctor.check(clean[:2], out=tmp_path / 'x.html', **some)


def test_a_damaged_file_does_not_hide_the_rows_after_it(clean, tmp_path):
  path = tmp_path / 'rows.parquet'
  noise = np.random.default_rng(0)
  big = [
    replace(p, image=encoded(Image.fromarray(
      noise.integers(0, 256, (600, 600, 3), np.uint8))))
    for p in clean[:4]
  ]  # fmt: skip
  sources.write(path, big)
  content = bytearray(path.read_bytes())
  content[len(content) // 8] ^= 0xFF
  path.write_bytes(content)
  report = doctor.check(sources.read(path), out=tmp_path / 'x.html')
  (problem,) = report.problems
  assert problem.kind == 'unreadable row' and 0 < problem.rows < 4
  assert str(path) in problem.cases[0].detail
  assert report.summary.usable == 4 - problem.rows


def test_a_case_is_told_with_its_file_and_its_place_there(clean, tmp_path):
  rows = list(clean[:6])
  rows[1] = replace(rows[1], image=b'no picture')
  rows[4] = with_answers(rows[4], *rows[4].answers[:1] * 2)
  for name, part in (('a', rows[:3]), ('b', rows[3:])):
    sources.write(tmp_path / f'{name}.parquet', part)
  report = doctor.check(
    sources.open(f'{tmp_path}/*.parquet'), out=tmp_path / 'x.html'
  )
  places = [f'{tmp_path}/a.parquet, row 1', f'{tmp_path}/b.parquet, row 1']
  listed = map(json.loads, report.list.read_text().splitlines())
  assert sorted(line['where'] for line in listed) == places
  for place, row in zip(places, (rows[1], rows[4]), strict=True):
    assert f'{place} ({row.id}): ' in report.text()
    assert f'<td>{place}: ' in report.page.read_text()


def test_rows_are_read_in_order_once_and_the_shown_ones_again(clean, tmp_path):
  source = Broken(clean[:CLEAN])
  doctor.check(source, out=tmp_path / 'x.html', sample=5)
  assert source.reads[:CLEAN] == list(range(CLEAN))
  assert source.reads[CLEAN:] == [0, 9, 19, 29, 39]
