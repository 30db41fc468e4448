"""Files: whole or not at all."""

import json
import os
import subprocess
import sys

import pytest

from rlhfv_jax import files


def test_a_writer_that_dies_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(path, {'old': 1})
  code = (
    'import os, sys\n'
    'from rlhfv_jax import files\n'
    f'with files.atomic({str(path)!r}) as tmp:\n'
    '  tmp.write_text("half"); os._exit(9)\n'
  )
  assert (
    subprocess.run([sys.executable, '-c', code], check=False).returncode == 9
  )
  assert files.read_json(path) == {'old': 1}


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
  with (
    pytest.raises(OSError, match='disk full'),
    files.atomic(tmp_path / 'a') as tmp,
  ):
    tmp.write_text('half')
    raise OSError('disk full')
  assert os.listdir(tmp_path) == []


def test_a_half_line_was_never_written(tmp_path):
  path = tmp_path / 'a.jsonl'
  files.append_lines(path, [{'n': 1}, {'n': 2}])
  with open(path, 'a') as f:
    f.write('{"n": 3')
  assert files.read_lines(path) == [{'n': 1}, {'n': 2}]


def test_a_broken_line_names_its_number(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
  with pytest.raises(ValueError, match=r'a\.jsonl, line 2: not JSON'):
    files.read_lines(path)
  path.write_text('{')
  with pytest.raises(ValueError, match='delete it to redo'):
    files.read_json(path)


def test_json_comes_back(tmp_path):
  value = {'a': [1, 2.5, 'ü', None], 'b': {'c': True}}
  files.write_json(tmp_path / 'a', value)
  assert files.read_json(tmp_path / 'a') == value
  assert json.loads((tmp_path / 'a').read_text()) == value
