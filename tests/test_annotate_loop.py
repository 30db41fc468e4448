"""The loop closed: what the page of a finished batch shows to be run, runs."""

import html
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from annotators import ROOT, client, edit

from rlhfv_jax import files, options
from rlhfv_jax.annotate import material, queue, ways
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.data import sources


def shown(page: str) -> list[list[str]]:
  """The commands on a page, as one would paste them into a shell."""
  lines = re.findall(r'<pre tabindex="0">(.*?)</pre>', page, re.DOTALL)
  return [shlex.split(html.unescape(line)) for line in lines]


def run(words: list[str], *, preset: str = '') -> str:
  """Run where the code is, with a small preset in place of minutes."""
  assert words[0] == 'python'
  words = [w + preset if w.startswith('--config=') else w for w in words[1:]]
  done = subprocess.run(
    [sys.executable, *words], cwd=ROOT, capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def trained(page: str, workdir, *, out) -> list[dict]:
  """Checks, trains and converts as the page says; the metrics of training."""
  check, train, convert = shown(page)
  run([*check, f'--out={out / "check.html"}'])
  assert (out / 'check.html').is_file()
  run(train, preset=':playroom,small')
  run([w.replace(':OUT', f':{out / "rlhfv"}') for w in convert])
  pairs = list(sources.open(f'annotations:{workdir}'))
  back = list(sources.open(f'rlhfv:{out / "rlhfv"}'))
  assert [e.spans for e in back] == [e.spans for e in pairs]
  folder = workdir / f'ddpo-{len(pairs)}'
  assert not (folder / 'feedback').exists()  # nobody else's corrections
  assert (folder / 'report.html').is_file()
  return files.read_lines(folder / 'metrics.jsonl')


@pytest.mark.parametrize('mode', ['correct', 'rank', 'label'])
def test_every_key_that_is_shown_is_one_of_its_config(mode):
  for _, line in ways.ways(mode, "my 'own' batch", 20):
    _, _, module, *words = shlex.split(line)
    if module == 'rlhfv_jax.main':
      config, *rest = [w.replace(':PRESET', ':playroom') for w in words]
      assert config.startswith('--config=configs/')
      options.check([config, *rest])
      assert any("my 'own' batch" in w for w in rest)


@pytest.mark.slow
def test_what_the_page_shows_checks_and_trains(tmp_path):
  """From the first edit to a report, with what is on the page alone."""
  workdir = tmp_path / 'a batch'  # a shell must not take it apart
  store = Store(workdir)
  spec = material.PLAYROOM.replace('/200', '/24')
  queue.add(store, sources.open(spec), double=0.0)
  page = client(store, workdir=str(workdir))
  for item in range(1, 25):
    said = json.loads(store.item(item)['example'])['answers'][-1]
    # In words that the playroom's model knows.
    new = said.replace('at the', 'in the', 1).replace('.', ' you see.', 1)
    told = edit(item, new, 0, state='corrected')
    answer = page.post('/api/submit', json=told | {'heard': [
      'uncategorised', 'rewritten'
    ]})  # fmt: skip
    assert answer.status_code == 200, answer.text
  metrics = trained(page.get('/progress').text, workdir, out=tmp_path)
  first = next(m for m in metrics if 'loss' in m)
  assert first['rewards/margins'] == pytest.approx(0, abs=1e-4)
