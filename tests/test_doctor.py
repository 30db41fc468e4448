"""The doctor finds every planted trouble, lists all of it, and nothing else."""

import base64
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax import doctor, feedback
from rlhfv_jax.data import chat, segments, sources
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.doctor import cards, exam, problems
from rlhfv_jax.doctor.problems import ERROR, KINDS, NOTE, WARNING
from rlhfv_jax.playroom import captions, dataset, language
from rlhfv_jax.playroom.scene import World, rng_of

WORLD = World()
TOKENIZER = chat.word_tokenizer([*language.vocabulary(), 'naked'])
TEMPLATE = chat.template('playroom')
IMAGE_TOKENS, BUCKETS = 9, [(48, 48, 2), (128, 64, 2)]
TOKENS = {
  'tokenizer': TOKENIZER,
  'template': TEMPLATE,
  'image_tokens': IMAGE_TOKENS,
  'buckets': BUCKETS,
}
HOSTILE = '</p><script>alert("$x")</script><img src=x onerror=alert(1)>'
CLEAN = 40
# One picture is planted because it is that large.
pytestmark = pytest.mark.filterwarnings(
  'ignore::PIL.Image.DecompressionBombWarning'
)


def pairs(n: int) -> list[Example]:
  """Corrections of captions that say what usually is there; no rewrites."""
  found = []
  for scene in dataset.scenes(WORLD, 'train', 4 * n):
    said = captions.noisy_caption(scene, rng_of(scene, 9), WORLD)
    asked = feedback.question(scene, language.DESCRIBE[len(found) % 5])
    pair = feedback.correction(asked, scene, said)
    if pair and len(pair.answers[0]) > 0.6 * len(said):
      origin = {'origin': 'playroom', 'model': 'base', 'annotator': 'ada'}
      found.append(replace(pair, image_path=f'rooms/{pair.id}.png', **origin))
  assert len(found) >= n
  return found[:n]


def encoded(picture: Image.Image, kind: str = 'PNG', **options) -> bytes:
  out = io.BytesIO()
  picture.convert('RGB').save(out, kind, **options)
  return out.getvalue()


def decoded(example: Example) -> Image.Image:
  return Image.open(io.BytesIO(example.image))


class Broken:
  """A source some of whose rows cannot be read, as a file's reader has it."""

  def __init__(self, rows):
    self.rows, self.reads = rows, []

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    self.reads.append(index)
    row = self.rows[index]
    if isinstance(row, Exception):
      raise row
    return row


# ---- what is planted: rows, and the kinds of problem that each has


def _say(pair, chosen, rejected, spans=None):
  return replace(pair, answers=(chosen, rejected), spans=spans)


def _both(pair, old, new):
  return _say(pair, *(answer.replace(old, new, 1) for answer in pair.answers))


def _asked(pair, question):
  return replace(pair, turns=(('user', question),))


def _jpeg(pair):
  return replace(pair, image=encoded(decoded(pair), 'JPEG', quality=80))


def _unreadable(take):
  yield ValueError('x.parquet, group 3: damaged'), 'unreadable row'
  yield FileNotFoundError('x.jpg'), 'unreadable row'
  yield RowError('wrong type', 'x.json, row 7: a list'), 'wrong type'
  yield RowError(HOSTILE, HOSTILE), HOSTILE


def _pictures(take):
  yield replace(take(), image=b'no picture at all'), 'undecodable picture'
  cut = take()
  half = cut.image[: len(cut.image) // 2]
  yield replace(cut, image=half), 'undecodable picture'
  out = io.BytesIO()
  Image.new('1', (10_000, 10_000)).save(out, 'PNG')
  yield replace(take(), image=out.getvalue()), 'picture too large'
  tiny = encoded(Image.new('L', (1, 1)))
  yield replace(take(), image=tiny), 'tiny picture'
  yield replace(take(), image=None), 'no picture'


def _texts(take):
  one = take()
  yield (
    replace(one, turns=(*one.turns, ('assistant', 'yes'))),
    ('turns out of order'),
  )
  yield _asked(take(), '<image> <image> what can you see?'), 'image placeholder'
  yield _both(take(), 'there', '<image> there'), 'image placeholder'
  yield _both(take(), 'there', '<end> there'), 'special token in the text'
  yield _both(take(), 'there', '\ud83d there'), 'half a character'
  yield _both(take(), 'there', 'yonder'), 'unknown word'
  yield _asked(take(), ' '), 'empty question'
  yield _asked(take(), 'USER: what can you see?'), 'markup in the text'
  yield _asked(take(), 'what can you see\ufffd?'), 'broken characters'


def _answers(take):
  yield replace(take(), answers=(), spans=None), 'no answer'
  one = take()
  yield replace(one, answers=one.answers[:1], spans=None), 'answers a row'
  said = take()
  yield _say(said, said.answers[0], ' '), 'empty answer'
  same = take()
  yield _say(same, *same.answers[:1] * 2), 'equal answers'
  marks = take()
  other = marks.answers[0].replace('.', '?')
  yield _say(marks, marks.answers[0], other), 'difference of no word'
  new = take()
  yield _say(new, new.answers[0], 'what is at the middle right? no.'), 'rewrite'


def _spans(take):
  one = take()
  yield replace(one, spans=one.spans[:1]), 'spans'
  outside = ((0, 9999, 'object'),), ()
  yield replace(take(), spans=outside), 'span outside its answer'
  over = ((0, 5, 'object'), (3, 8, 'number')), ()
  yield replace(take(), spans=over), 'overlapping spans'
  yield replace(take(), spans=((), ())), 'nothing marked'
  elsewhere = ((0, 2, 'object'),), ((0, 2, 'object'),)
  yield replace(take(), spans=elsewhere), 'difference outside the spans'
  named = take()
  spans = tuple(tuple((*s[:2], HOSTILE) for s in its) for its in named.spans)
  names = dict.fromkeys(('id', 'image_path', 'origin', 'annotator'), HOSTILE)
  yield (
    _asked(replace(named, spans=spans, **names), HOSTILE),
    'unknown category',
  )


def _long(take):
  asked, said = take(), take()
  yield (
    _asked(asked, ' '.join(said.answers * 8)),
    ('prompt longer than every bucket'),
  )
  yield (
    _say(said, *(' '.join([text] * 12) for text in said.answers)),
    ('answers longer than every bucket'),
  )


def _twins(take):
  yield replace(take(), id='twice'), None
  yield replace(take(), id='twice'), 'duplicate id'
  one = take()
  yield one, None
  yield replace(one, id='again'), 'duplicate rows'
  back = take()
  yield back, None
  chosen, rejected = back.answers
  yield replace(_say(back, rejected, chosen), id='back'), 'contradiction'
  alike_ = take()
  text = ' '.join(take().answers[0] for _ in range(3))
  yield _say(alike_, f'{text} yes.', f'{text} two.'), None
  near = _say(alike_, f'{text} yes?', f'{text} one.')
  yield replace(near, id='near'), 'near-duplicate rows'
  yield _say(take(), f'{text} yes.', f'{text} no.'), 'alike answers'
  shown, told = take(), take()
  yield shown, None
  jpeg = replace(told, image=_jpeg(shown).image)
  yield jpeg, 'alike pictures'


def _held_out(take):
  number = replace(take(), image_path='coco/train2017/000000000042.jpg')
  yield number, 'evaluation picture'
  yield replace(take(), image_path='AMBER_7.jpg'), 'evaluation picture'
  yield take(), 'evaluation picture'  # its picture is held out
  yield _jpeg(take()), 'evaluation picture'  # so is one that looks the same
  val = replace(take(), image_path='COCO_val2014_000000099999.jpg')
  yield val, 'perhaps an evaluation picture'


PLANTS = (
  _unreadable, _pictures, _texts, _answers, _spans, _long, _twins, _held_out,
)  # fmt: skip


@pytest.fixture(scope='module')
def clean():
  return pairs(120)


@pytest.fixture(scope='module')
def dirty(clean):
  """Rows of which some are planted, and the kind of each: {row: kind}."""
  fresh = iter(clean[CLEAN:])
  planted = [p for plant in PLANTS for p in plant(lambda: next(fresh))]
  places = sorted(
    random.Random(0).sample(range(CLEAN + len(planted)), len(planted))
  )
  rows, kinds = list(clean[:CLEAN]), {}
  for place, (row, kind) in zip(places, planted, strict=True):
    rows.insert(place, row)
    if kind:
      kinds[place] = kind
  return rows, kinds


@pytest.fixture(scope='module')
def held(dirty, tmp_path_factory):
  """Benchmark files in the forms that they are published in."""
  rows, kinds = dirty
  folder = tmp_path_factory.mktemp('held')
  coco = {'images': [{'file_name': 'COCO_val2014_000000000042.jpg'}]}
  (folder / 'instances.json').write_text(json.dumps(coco))
  (folder / 'amber.txt').write_text('AMBER_6.jpg\nAMBER_7.jpg\n')
  pictures = folder / 'pictures'
  pictures.mkdir()
  kept = [rows[i] for i, kind in kinds.items() if kind == 'evaluation picture']
  (pictures / 'a.png').write_bytes(kept[2].image)
  (pictures / 'b.png').write_bytes(encoded(decoded(kept[3])))
  return [folder / 'instances.json', folder / 'amber.txt', pictures]


@pytest.fixture(scope='module')
def source(dirty):
  return Broken(dirty[0])


@pytest.fixture(scope='module')
def report(source, held, tmp_path_factory):
  out = tmp_path_factory.mktemp('doctor') / 'dirty.html'
  return doctor.check(source, out=out, name=HOSTILE, against=held, **TOKENS)


@pytest.fixture(scope='module')
def html(report):
  return report.page.read_text('utf-8')


def kinds_of(report) -> dict[int, set[str]]:
  found = {}
  for problem in report.problems:
    for case in problem.cases:
      found.setdefault(case.index, set()).add(problem.kind)
  return found


# ---- what is found


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
  assert _Reader(report.page.read_text()).open == []


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
  rows[4] = _say(rows[4], *rows[4].answers[:1] * 2)
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


# ---- what is counted


def test_words_and_the_playrooms_tokens_tell_the_same(clean):
  """A token is a word there, and an answer has one more, its stop."""
  packed = encode_all(clean, **TOKENS | {'buckets': None})
  for i, pair in enumerate(clean):
    words = exam.in_words(pair, pair.spans)
    _, *answers = packed.sizes[i].tolist()
    assert [n + 1 for n in words.answers] == answers
    assert words.head == packed.heads[i]
    n = packed.roles[packed.starts[i, 1] :][
      : sum(answers) + 2 * packed.sizes[i, 0]
    ]
    assert sum(words.corrected) == (n == 2).sum()


def test_the_summary_counts_the_usable_rows(clean, tmp_path):
  rows = clean[:CLEAN]
  s = doctor.check(rows, out=tmp_path / 'x.html', **TOKENS).summary
  spans = [pair.spans[0] for pair in rows]
  assert s.counts['category'].total() == sum(map(len, spans))
  assert s.segments.tolist() == [len(its) for its in spans]
  assert s.counts['model'] == {'base': CLEAN}
  words = [[re.findall(r'\w+|[^\w\s]', text) for text in pair.answers]
           for pair in rows]  # fmt: skip
  heads = [len(os.path.commonprefix(both)) for both in words]
  shorter = np.minimum(s.chosen, s.rejected)
  np.testing.assert_array_equal(np.round(s.shared * shorter), heads)


# ---- what is shown


class _Reader(HTMLParser):
  """Collects the tags that stay open, what is linked, ids and texts."""

  VOID = ('meta', 'img', 'br', 'link', 'input')

  def __init__(self, html):
    super().__init__()
    self.open, self.seen, self.links, self.ids, self.texts = [], [], [], [], []
    self.handlers = []
    self.feed(html)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
    self.ids += [v for k, v in attrs if k == 'id']
    self.handlers += [k for k, _ in attrs if k.startswith('on')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in self.VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, f'</{tag}> closes another'

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'script'):
      self.texts.append(data)


def test_the_page_is_whole_and_hostile_text_is_text(html):
  reader = _Reader(html)
  assert reader.open == [] and reader.handlers == []
  assert reader.seen.count('script') == 1
  assert ''.join(reader.texts).count(HOSTILE) >= 8
  assert len(reader.ids) == len(set(reader.ids))


def test_nothing_comes_from_outside_and_one_script_may_run(html):
  reader = _Reader(html)
  assert reader.links and all(re.match('data:|#', x) for x in reader.links)
  rest = re.sub(r'"data:[^"]*"', '', html)
  assert not re.search(r'https?:|@import|url\((?!#)', rest)
  script = re.search('<script>(.*?)</script>', html, re.DOTALL)[1]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  policy = re.search('Content-Security-Policy" content="([^"]*)"', html)[1]
  assert "default-src 'none'" in policy
  assert f"script-src 'sha256-{digest}'" in policy


def test_links_lead_to_rows_that_are_shown(html):
  reader = _Reader(html)
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
  rows = [_asked(replace(clean[0], id='\x1b[2J\ud83d'), ' ')]
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
