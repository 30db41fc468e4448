"""What anybody may send is refused or shown as text; the server stays up."""

import contextlib
import html
import json
import socket
import urllib.request

import pytest
from annotators import client, edit, example, server
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.annotate import assets, material, queue
from rlhfv_jax.annotate.gate import LIMIT
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.data.example import RowError

SCRIPT = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'}{{7*7}}'


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  found = Store(tmp_path_factory.mktemp('annotate'))
  rows = [example(i) for i in range(8)] + [example(8, SCRIPT, origin=SCRIPT)]
  queue.add(found, rows, double=0.0)
  return found


@pytest.fixture(scope='module')
def page(store):
  return client(store)


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
  for name in assets.STATIC:
    assert '://' not in page.get(f'/static/{name}').text, name


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
                     'joins', 'state', 'name', 'heard', 'keys', 'marked']), x),
  max_leaves=9,
))  # fmt: skip
def test_no_json_brings_the_server_down(page, told):
  content = json.dumps(told).encode()
  for name in ('diff', 'draft', 'submit', 'rank', 'label', 'person',
               'tokens'):  # fmt: skip
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


def test_behind_a_proxy_its_own_pages_may_change_something(store):
  """As Colab's: another host in the address than the one that asks."""
  page = client(store, token='s3cret-token', origins=('.proxy.example',))
  told, way = {'item': 1, 'text': 'x'}, '/api/diff?token=s3cret-token'
  for origin, status in (
    ('https://a-8765.proxy.example', 200), ('https://proxy.example', 200),
    ('https://evil-proxy.example', 403), ('https://proxy.example.evil', 403),
  ):  # fmt: skip
    answer = page.post(way, json=told, headers={'origin': origin})
    assert answer.status_code == status, origin


def test_pages_hang_from_wherever_a_proxy_put_them(page):
  """No address in them begins at the root, nor does a redirect."""
  for path in ('/item/1', '/progress', '/who', '/compare/1'):
    shown = page.get(path).text
    assert 'href="/' not in shown and 'src="/' not in shown, path
  assert page.get('/', follow_redirects=False).headers['location'] in (
    './item/1', './progress'
  )  # fmt: skip
  for name in assets.STATIC:
    assert "'/" not in page.get(f'/static/{name}').text.replace("'/':", '')


def test_elsewhere_a_token_is_needed(store):
  page = client(store, token='s3cret-token', person='')
  page.base_url = 'http://box.example:8765'
  for path in ('/', '/progress', '/static/correct.js', '/?token=wrong',
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
  assert 'HttpOnly' in cookie and 'SameSite=Lax' in cookie
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


HEAD = b'POST /api/diff HTTP/1.1\r\nhost: localhost\r\n'
TYPED = HEAD + b'content-type: application/json\r\n'
CHUNKED = TYPED + b'transfer-encoding: chunked\r\n\r\n'


def test_the_command_alone_shows_the_playroom_whatever_else_comes(tmp_path):
  """A real server, and what no library would send."""
  with server(tmp_path / 'W') as (process, port):
    for sent in (
      b'\x00\xff\xfe\r\n\r\n',
      b'GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n',
      b'GET / HTTP/1.1\r\n' + b'a: b\r\n' * 20_000 + b'\r\n',
      TYPED + b'content-length: -1\r\n\r\n',
      TYPED + b'content-length: 99999999999999\r\n\r\n' + b'x' * 1000,
      CHUNKED + b'fffff\r\n' + b'x' * 0xFFFFF + b'\r\n0\r\n\r\n',
      TYPED + b'content-length: 9\r\n\r\n{"item"',  # and no more
    ):
      line = socket.create_connection(('127.0.0.1', port), timeout=5)
      with line, contextlib.suppress(OSError):  # it hung up on us
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(4096)
        assert b' 200 ' not in answer and b'root:' not in answer, answer
      assert process.poll() is None
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/item/1') as page:
      shown = page.read().decode()
    assert 'item 1 of ' in shown and 'id="picture"' in shown
