"""What anybody may send is refused or shown as text; what is served is true."""

import html
import json
import statistics
import time

import numpy as np
import pytest
from annotators import ANSWER, edit, example, save
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.annotate import material, queue, server
from rlhfv_jax.annotate.gate import LIMIT
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.data import chat, segments, sources, tokenizer
from rlhfv_jax.data.encode import encode
from rlhfv_jax.data.example import RowError
from rlhfv_jax.playroom import language

SCRIPT = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'}{{7*7}}'
TEXT = st.text(st.characters(exclude_categories=['Cs']), max_size=60)


def client(store, **settings) -> TestClient:
  settings = server.Settings(**{'person': 'ada', **settings})
  return TestClient(server.build(store, settings), 'http://localhost',
                    raise_server_exceptions=False)  # fmt: skip


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  found = Store(tmp_path_factory.mktemp('annotate'))
  rows = [example(i) for i in range(8)]
  rows += [example(8, SCRIPT, origin=SCRIPT)]
  rows += [example(9, ' '.join(f'word{i % 60}' for i in range(200)))]
  queue.add(found, rows, double=0.0)
  return found


@pytest.fixture(scope='module')
def page(store):
  return client(store)


@settings(max_examples=220, deadline=None)
@given(TEXT)
def test_the_served_segments_are_those_of_training(page, text):
  answer = page.post('/api/diff', json={'item': 1, 'text': text})
  assert answer.status_code == 200, answer.text
  view = answer.json()
  text = text.replace('\r\n', '\n').replace('\r', '\n')
  chosen, rejected = segments.spans(text, ANSWER)
  assert [tuple(s['at']) for s in view['segments']] == rejected
  assert [s['new'] for s in view['segments']] == [text[a:b] for a, b in chosen]


def test_an_edit_becomes_the_pair_that_training_reads(tmp_path):
  """From keys to roles: the row equals the one of the spans themselves."""
  store = Store(tmp_path)
  queue.add(store, sources.open('playroom:test/describe/6'), double=0.0)
  page, words = client(store), language.vocabulary()
  tokens = tokenizer.word_tokenizer(words)
  template = chat.template('playroom')
  for item in range(1, 6):
    said = json.loads(store.item(item)['example'])['answers'][-1]
    first, *rest = said.split(' ')
    new = ' '.join([*rest, 'there', 'is', 'a', 'red', 'car', '.'])
    view = page.post('/api/diff', json={'item': item, 'text': new}).json()
    labels = [[*s['at'], 'object'] for s in view['segments']]
    answer = page.post('/api/submit', json=edit(
      item, new, 0, state='corrected', marks={'labels': labels},
      heard=['rewritten'],
    ))  # fmt: skip
    assert answer.status_code == 200, answer.text
  assert queue.next_item(store, 'ada') == 6
  pairs = sources.open(f'annotations:{tmp_path}')
  assert len(pairs) == 5
  for pair in pairs:
    assert pair.annotator == 'ada' and pair.image
    plain = [[span[:2] for span in side] for side in pair.spans]
    assert plain == [list(side) for side in segments.spans(*pair.answers)]
    row = encode(pair, tokens, template, image_tokens=9)
    for answer, spans, roles in zip(pair.answers, plain, row.roles,
                                    strict=True):  # fmt: skip
      told = tokens(answer, add_special_tokens=False,
                    return_offsets_mapping=True)['offset_mapping']  # fmt: skip
      want = segments.roles_from_spans(spans, told)
      np.testing.assert_array_equal(roles[roles > 0][: len(want)], want)


def test_style_weighs_like_what_is_unchanged_and_is_kept(tmp_path):
  store = Store(tmp_path)
  queue.add(store, [example(1)], double=0.0)
  page = client(store)
  new = ANSWER.replace('red', 'blue').replace('stand', 'are')
  view = page.post('/api/diff', json={'item': 1, 'text': new}).json()
  kinds = ('attribute', 'style')
  labels = [
    [*segment['at'], kind]
    for segment, kind in zip(view['segments'], kinds, strict=True)
  ]
  answer = page.post('/api/submit', json=edit(
    1, new, 0, state='corrected', marks={'labels': labels}
  ))  # fmt: skip
  assert answer.json() == {'version': 1, 'state': 'corrected', 'next': None}
  (pair,) = sources.open(f'annotations:{tmp_path}')
  assert pair.spans == (((2, 6, 'attribute'),), ((2, 5, 'attribute'),))
  assert pair.extra['annotation']['style'] == [[24, 27, 23, 28]]
  told = page.post('/api/submit', json=edit(1, 'x', 1, state='corrected'))
  assert told.status_code == 422
  assert {g['kind'] for g in told.json()['guards']} == {
    'rewritten', 'uncategorised'
  }  # fmt: skip


def test_the_loop_of_other_formats_keeps_spans_and_categories(tmp_path):
  from rlhfv_jax.data import conversion

  test_style_weighs_like_what_is_unchanged_and_is_kept(tmp_path / 'W')
  (pair,) = sources.open(f'annotations:{tmp_path / "W"}')
  for kind in ('jsonl', 'examples', 'trl'):
    out = f'{kind}:{tmp_path / kind}'
    conversion.convert(f'annotations:{tmp_path / "W"}', out)
    (back,) = sources.open(out)
    assert (back.answers, back.spans) == (pair.answers, pair.spans)


def test_rankings_become_preferences(tmp_path):
  store = Store(tmp_path)
  two = [example(i) for i in range(8)]
  two = [e.__class__(**{**vars(e), 'answers': ('good', 'bad')}) for e in two]
  queue.add(store, material.usable(two, 'rank', []), double=0.0)
  page = client(store, mode='rank')
  from rlhfv_jax.annotate.review import first_shown

  for item in range(1, 9):
    shown = page.get(f'/item/{item}').text
    first = first_shown(item, 'ada')
    assert (shown.index('<p>good') < shown.index('<p>bad')) == (first == 0)
    tie = item % 2
    told = {'item': item, 'version': 0, 'save': save()}
    told |= {'honesty': 'tie' if tie else first, 'helpfulness': first}
    answer = page.post('/api/rank', json=told)
    assert answer.status_code == 200, answer.text
  pairs = list(sources.open(f'annotations:{tmp_path}'))
  assert [pair.answers for pair in pairs] == [('good', 'bad')] * 8
  assert [p.extra['annotation']['honesty'] for p in pairs[:2]] == [
    'tie', 'decides'
  ]  # fmt: skip
  assert {first_shown(i, 'ada') for i in range(1, 9)} == {0, 1}
  assert page.get('/compare/1').status_code == 404  # there are no edits


def test_scripts_are_shown_as_text(page, store):
  shown = page.get('/item/9').text
  assert '<script>alert' not in shown and '<img src=x' not in shown
  assert '49' not in shown.split('id="shown"')[0]
  body = edit(9, SCRIPT + ' more', 0, state='corrected',
              heard=['uncategorised'])  # fmt: skip
  assert page.post('/api/submit', json=body).status_code == 200
  for path in ('/compare/9', '/progress'):
    answer = page.get(path)
    assert answer.status_code == 200
    assert '<script>alert' not in answer.text
  assert html.escape('<script>', quote=False) in page.get('/compare/9').text


def test_a_page_may_load_and_frame_nothing_from_elsewhere(page):
  policy = page.get('/item/1').headers['content-security-policy']
  assert "default-src 'none'" in policy and 'unsafe' not in policy
  assert 'http' not in policy and '*' not in policy
  for name in ('annotate.js', 'rank.js', 'annotate.css'):
    assert '://' not in page.get(f'/static/{name}').text


@pytest.mark.parametrize(
  'path',
  ['/static/../server.py', '/static/%2e%2e%2fserver.py', '/picture/../../about',
   '/picture/..%2f..%2fannotations.sqlite', '/static/annotations.sqlite',
   '/item/0', '/item/99999999999999999999999', '/item/x', '/docs',
   '/openapi.json', '/picture/%00', '/compare/77', '/item/4000'],
)  # fmt: skip
def test_what_is_not_there_is_not_found(page, path):
  answer = page.get(path)
  assert answer.status_code in (404, 422), answer.text
  assert 'Traceback' not in answer.text and 'SQLite' not in answer.text


JSON = {'content-type': 'application/json'}


@pytest.mark.parametrize(
  'content, status',
  [
    (b'', 400), (b'{', 400), (b'[]', 400), (b'null', 400), (b'\xff\xfe', 400),
    (b'{"item": 1}', 400), (b'{"item": 1, "text": 5}', 400),
    (b'{"item": true, "text": ""}', 400), (b'{"item": -1, "text": ""}', 400),
    (b'{"item": NaN, "text": ""}', 400), (b'{"item": 1e400, "text": ""}', 400),
    (b'{"item": 1, "text": "\\ud800"}', 400), (b'[' * 100_000, 400),
    (b'{"item": ' + b'9' * 5000 + b'}', 400),
    (json.dumps({'item': 1, 'text': 'x' * 50_001}).encode(), 400),
    (b' ' * (LIMIT + 1), 413),
  ],
)  # fmt: skip
def test_malformed_and_huge_bodies_are_refused(page, content, status):
  for name in ('diff', 'draft', 'submit'):
    answer = page.post(f'/api/{name}', content=content, headers=JSON)
    assert answer.status_code == status, (name, answer.text[:200])
    assert 'error' in answer.json() and len(answer.text) < 500
  assert page.get('/item/1').status_code == 200


@settings(max_examples=200, deadline=None)
@given(st.recursive(
  st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
  lambda x: st.lists(x, max_size=3) | st.dictionaries(
    st.sampled_from(['item', 'text', 'marks', 'version', 'save', 'labels',
                     'joins', 'state', 'name', 'heard', 'keys']), x),
  max_leaves=9,
))  # fmt: skip
def test_no_json_brings_the_server_down(page, told):
  content = json.dumps(told).encode()
  for name in ('diff', 'draft', 'submit', 'rank', 'person', 'tokens'):
    answer = page.post(f'/api/{name}', content=content, headers=JSON)
    assert answer.status_code in (200, 400, 404, 409, 422), answer.text


@pytest.mark.parametrize(
  'headers, status',
  [
    ({'origin': 'http://localhost'}, 200),
    ({'origin': 'https://evil.example'}, 403),
    ({'origin': 'null'}, 403),
    ({'origin': 'http://localhost.evil.example'}, 403),
    ({'sec-fetch-site': 'cross-site'}, 403),
    ({'host': 'evil.example'}, 403),
    ({'host': 'localhost.evil.example'}, 403),
    ({'content-type': 'text/plain'}, 415),
    ({'content-type': 'application/x-www-form-urlencoded'}, 415),
  ],
)
def test_only_this_page_may_change_anything(page, headers, status):
  answer = page.post('/api/diff', json={'item': 1, 'text': 'x'},
                     headers={**JSON, **headers})  # fmt: skip
  assert answer.status_code == status, answer.text


def test_elsewhere_a_token_is_needed(store):
  page = client(store, token='s3cret-token', person='')
  page.base_url = 'http://box.example:8765'
  for path in ('/', '/progress', '/static/annotate.js', '/?token=wrong',
               '/?token=s3cret-toke', '/?token='):  # fmt: skip
    answer = page.get(path)
    assert answer.status_code == 403
    assert 's3cret' not in answer.text
  assert (
    page.get('/', headers={'cookie': 'annotate_token="'}).status_code == 403
  )
  opened = page.get('/?token=s3cret-token')
  assert opened.status_code == 200 and 'Who is annotating' in opened.text
  cookie = opened.headers['set-cookie']
  assert 'HttpOnly' in cookie and 'SameSite=Strict' in cookie
  assert page.get('/progress').status_code == 200
  assert page.post('/api/person', json={'name': ' Ada  L. '}).json() == {
    'name': 'Ada L.'
  }
  assert page.get('/', follow_redirects=True).status_code == 200


def test_names_of_pictures_lead_out_of_no_folder(tmp_path):
  (tmp_path / 'pictures').mkdir()
  (tmp_path / 'secret.png').write_bytes(b'\x89PNG\r\n\x1a\nsecret')
  rows = [{'image': name, 'question': 'q', 'answer': 'a'}
          for name in ('../secret.png', str(tmp_path / 'secret.png'),
                       'a/../../secret.png', SCRIPT)]  # fmt: skip
  file = tmp_path / 'answers.jsonl'
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  source, told = material.open_source(str(file), str(tmp_path / 'pictures')), []
  assert not list(material.usable(source, 'correct', told))
  assert len(told) == 4
  with pytest.raises(RowError, match='outside the folder'):
    source[0]


def test_answers_of_a_run_get_their_pictures_again(tmp_path):
  folder = tmp_path / 'runs' / 'ddpo' / 'answers'
  folder.mkdir(parents=True)
  (want,) = sources.open('playroom:test/describe/1')
  row = {'id': 'test-0-0', 'question': 'what?', 'answer': 'a\r\nb'}
  (folder / 'base.jsonl').write_text(json.dumps(row) + '\n')
  spec = material.default(tmp_path / 'runs')
  assert spec == str(folder / 'base.jsonl')
  (found,) = material.usable(material.open_source(spec, None), 'correct', [])
  assert found.image == want.image
  assert found.answers == ('a\nb',)
  assert found.extra['answers_as_given'] == ['a\r\nb']
  assert material.default(tmp_path / 'none') == material.PLAYROOM


def test_segments_are_quick(page):
  """The server's share of the 100 ms that a screen has."""
  words = ' '.join(f'word{i % 60}' for i in range(200)).split()
  times = []
  for i in range(40):
    words[(i * 37) % 200] = f'changed{i}'
    begin = time.perf_counter()
    answer = page.post('/api/diff', json={'item': 10, 'text': ' '.join(words)})
    times.append(time.perf_counter() - begin)
    assert answer.status_code == 200
  assert statistics.median(times) < 0.1
