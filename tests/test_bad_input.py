"""What a person may get wrong, and a disk: a sentence, and nothing lost."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from runs import ENV, MAIN, ROOT, bits, run

from rlhfv_jax import files
from rlhfv_jax.data import sources


def png() -> bytes:
  out = io.BytesIO()
  Image.new('RGB', (96, 96), 'white').save(out, 'PNG')
  return out.getvalue()


def from_feedback(finished, folder: Path) -> Path:
  """A run that has its corrections and nothing after them."""
  for name in ('eyes', 'base', 'feedback', 'truth'):
    shutil.copytree(finished[0] / name, folder / name)
  return folder / 'feedback/train.parquet'


def test_rows_that_cannot_be_used_are_counted_listed_and_left_out(
  finished, tmp_path
):
  path = from_feedback(finished, tmp_path / 'run')
  good = list(sources.read(path))
  whole = replace(good[0], image=png())
  bad = {
    'equal': replace(whole, answers=('A red cup.',) * 2, spans=None),
    'empty': replace(whole, answers=('A red cup.', ''), spans=None),
    'cut': replace(whole, image=whole.image[:40]),
    'no-picture': replace(whole, image=b'not a picture'),
    'placeholder': replace(
      whole, answers=('A <image> cup.', 'A cup.'), spans=None
    ),
    'long': replace(
      whole, answers=('There is a cup. ' * 80, 'A cup.'), spans=None
    ),
  }
  bad = [replace(example, id=name) for name, example in bad.items()]
  sources.write(path, good + bad)
  code, out = run(f'--workdir={tmp_path / "run"}')
  assert code == 0, out
  listed = files.read_json(path.with_suffix('.rejected.json'))
  places = {row['index'] for row in listed}
  assert places >= set(range(len(good), len(good) + len(bad)))
  before = files.read_json(finished[0] / 'feedback/train.rejected.json')
  assert len(listed) == len(before) + len(bad)
  results = files.read_json(tmp_path / 'run/results.json')
  counts, used = results['rows not used'], results['rows']['feedback/train']
  assert used['rows'] - used['used'] == len(listed)
  assert 0 < used['padding'] < 1 and used['buckets']
  assert sum(counts['feedback/train'].values()) == len(listed)
  for reason in counts['feedback/train']:
    assert reason in out
    assert reason in (tmp_path / 'run/report.html').read_text()


def test_bad_rows_that_were_brought_end_a_run_unless_it_says_otherwise(
  finished, tmp_path
):
  """Each is named by its file and its line."""
  folder = tmp_path / 'run'
  for name in ('eyes', 'base', 'truth'):
    shutil.copytree(finished[0] / name, folder / name)
  rows = list(sources.open('playroom:train/pairs/24'))
  rows[7] = replace(rows[7], answers=('a cup.',) * 2, spans=None)
  rows[9] = replace(rows[9], image=b'not a picture')
  sources.module('jsonl').write(tmp_path / 'data', rows)
  path = tmp_path / 'data/rows.jsonl'
  path.write_text(path.read_text() + '{"question": "wh\n')
  args = [f'--workdir={folder}', f'--config.data=jsonl:{tmp_path}/data']
  args += ['--config.data.dev=0.3', "--config.stages=('reference',)"]
  code, out = run(*args)
  assert code == 1 and 'Traceback' not in out, out
  assert 'rows cannot be used: ' in out and '--config.data.skip=True' in out
  assert re.search(rf'The first is {path}, row (7|9|24) \(line', out), out
  code, out = run(*args, '--config.data.skip=True')
  assert code == 0, out
  listed = [
    row
    for side in ('train', 'dev')
    for row in files.read_json(folder / f'data/{side}.rejected.json')
  ]
  assert sorted((row['reason'], row['where']) for row in listed) == [
    ('equal answers', f'{path}, row 7 (line 8)'),
    ('not JSON', f'{path}, row 24 (line 25)'),
    ('undecodable picture', f'{path}, row 9 (line 10)'),
  ]


def test_an_unwritable_workdir_ends_the_command(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  code, out = run(f'--workdir={tmp_path / "file" / "run"}')
  assert code == 1
  assert 'cannot be written' in out and 'choose another' in out
  assert 'Traceback' not in out


def test_a_truncated_checkpoint_is_set_aside_by_the_command(finished, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(finished[0], folder)
  for name in ('done.json', 'results.json'):
    (folder / name).unlink()
  shutil.rmtree(folder / 'params')
  steps = sorted(
    (p for p in (folder / 'checkpoints').iterdir() if p.name.isdigit()),
    key=lambda p: int(p.name),
  )
  assert len(steps) > 1
  for path in steps[-1].rglob('*'):
    if path.is_file() and path.stat().st_size > 100:
      path.write_bytes(path.read_bytes()[:50])
  code, out = run(f'--workdir={folder}')
  assert code == 0, out
  assert steps[-1].name in out
  assert bits(folder) == bits(finished[0])


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['base', 'reference', 'arms'])
def test_a_disk_that_fills_up_loses_nothing(finished, tmp_path, stage):
  """No file may grow past a limit, as on a full disk; then it may."""
  folder = tmp_path / 'run'
  shutil.copytree(finished[0], folder)
  gone = {
    'base': ('base', 'feedback', 'reference', 'arms', 'answers', 'params',
             'checkpoints', 'best', 'done.json', 'results.json'),
    'reference': ('reference', 'arms', 'answers', 'params', 'checkpoints',
                  'best', 'done.json', 'results.json'),
    'arms': ('arms', 'answers', 'results.json'),
  }  # fmt: skip
  for name in gone[stage]:
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
  command = [sys.executable, *MAIN, f'--workdir={folder}']
  limited = ['bash', '-c', 'ulimit -f 4; exec "$@"', 'bash', *command]
  done = subprocess.run(
    limited, cwd=ROOT, env=ENV, text=True, check=False,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip
  assert done.returncode != 0
  assert 'error:' in done.stdout, done.stdout[-2000:]
  code, out = run(f'--workdir={folder}')
  assert code == 0, out
  assert bits(folder) == bits(finished[0])


def test_json_and_lines_survive_a_write_that_fails(tmp_path):
  path = tmp_path / 'x.json'
  files.write_json(path, {'kept': 1})
  script = (
    'import resource, signal, sys\n'
    'from rlhfv_jax import files\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
    'files.write_json(sys.argv[1], {"new": "x" * 5000})\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(path)], cwd=ROOT, env=os.environ,
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode != 0 and 'OSError' in done.stderr
  assert json.loads(path.read_text()) == {'kept': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']
