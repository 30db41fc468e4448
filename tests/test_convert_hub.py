"""From the hub: a repository served here, and the command that fetches it."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from checkpoints import LLAVA, expected, file, shards, state
from test_convert_import import assert_identical

from rlhfv_jax import files, sharding
from rlhfv_jax.convert import workdir

torch = pytest.importorskip('torch')

# Two branches of one repository; both hold what is in the folder.
BRANCHES = {'main': 'a' * 40, 'v1.5': 'b' * 40}


class Handler(http.server.BaseHTTPRequestHandler):
  """As much of the hub as its library asks."""

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    at = unquote(urlsplit(self.path).path).removeprefix('/api/models')
    kind, _, rest = at.removeprefix('/org/name/').partition('/')
    name, _, path = rest.partition('/')
    commit = BRANCHES.get(name, name)
    if commit not in BRANCHES.values():
      return self.say(404, b'', {'X-Error-Code': 'RevisionNotFound'})
    self.server.asked.append(at)
    if kind == 'revision':
      return self.say(200, {'id': 'org/name', 'sha': commit, 'siblings': []})
    home = self.server.home
    if kind == 'tree':
      return self.say(200, [
        {'type': 'file', 'path': p.relative_to(home).as_posix(),
         'size': p.stat().st_size, 'oid': '0' * 40}
        for p in sorted(home.rglob('*')) if p.is_file()
      ])  # fmt: skip
    content = (home / path).read_bytes()
    return self.say(
      200, content, {'X-Repo-Commit': commit, 'ETag': f'"{path}"'}
    )

  def say(self, status, content, headers=None):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    self.send_response(status)
    sized = {'Content-Length': str(len(content))}
    for key, value in (sized | (headers or {})).items():
      self.send_header(key, value)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(content)


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
  """org/name with a model in a folder of it, in two forms, and others."""
  home = tmp_path_factory.mktemp('hub')
  shards(home / 'sft_model', state('hf'), suffix='.safetensors', stem='model')
  file(home / 'sft_model/pytorch_model.bin', {'other': torch.ones(1)})
  (home / 'sft_model/config.json').write_text('{"model_type": "llava"}')
  file(home / 'lora/adapter_model.safetensors', {'other': torch.ones(1)})
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    server.home, server.asked = home, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def convert(hub, cache, *args):
  done = subprocess.run(
    [sys.executable, '-m', 'rlhfv_jax', 'convert', 'import', *args],
    cwd=Path(__file__).parents[1], capture_output=True, text=True,
    env=os.environ | {
      'HF_ENDPOINT': f'http://127.0.0.1:{hub.server_address[1]}',
      'HF_HOME': str(cache), 'HF_HUB_DISABLE_XET': '1', 'NO_PROXY': '127.0.0.1',
    },
  )  # fmt: skip
  return done.returncode, done.stdout + done.stderr


def test_a_folder_of_a_repository_at_a_revision(hub, tmp_path):
  files.write_json(tmp_path / 'model.json', LLAVA)
  asked = ['--from=org/name/sft_model', f'--model={tmp_path / "model.json"}']
  code, out = convert(
    hub, tmp_path / 'cache', *asked, '--revision=v1.5', f'--to={tmp_path / "a"}'
  )
  assert code == 0, out
  read = workdir.read(tmp_path / 'a', sharding.make_mesh((1, -1, 1)))
  assert_identical(read, expected())
  (source,) = files.read_json(tmp_path / 'a/model.json')['sources']
  assert source == {
    'from': 'org/name/sft_model', 'revision': BRANCHES['v1.5'], 'format': 'hf'
  }  # fmt: skip
  fetched = {Path(p).name for p in hub.asked if '/resolve/' in p}
  assert fetched == {
    p.name for p in (hub.home / 'sft_model').iterdir() if p.suffix != '.bin'
  }


@pytest.mark.parametrize(
  'source, revision, words',
  [
    ('org/name/sft_model', 'v2', 'check the spelling and the revision'),
    ('org/name', 'main', 'but in org/name/lora, org/name/sft_model'),
    ('org/other', 'main', 'log in with `hf auth login`'),
  ],
)
def test_what_the_hub_does_not_have(hub, tmp_path, source, revision, words):
  files.write_json(tmp_path / 'model.json', LLAVA)
  hub.asked.clear()
  code, out = convert(
    hub, tmp_path, f'--from={source}', f'--revision={revision}',
    f'--model={tmp_path / "model.json"}', f'--to={tmp_path / "a"}',
  )  # fmt: skip
  assert code == 1 and f'error: {source}: ' in out and words in out
  assert 'Traceback' not in out
  assert not any('/resolve/' in path for path in hub.asked)
