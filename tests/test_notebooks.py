"""The notebooks: they run from top to bottom, and think in the library."""

import ast
import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest
from runs import ROOT

NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
NAMES = [path.stem for path in NOTEBOOKS]


def cells(path: Path, kind: str) -> list:
  book = nbformat.read(path, as_version=4)
  return [cell for cell in book.cells if cell.cell_type == kind]


def python(cell) -> str:
  """Its source without what only a notebook knows."""
  return re.sub(r'^( *)[!%].*$', r'\1pass', cell.source, flags=re.MULTILINE)


def test_all_four_are_there():
  assert NAMES == ['colab_tpu', 'ddpo_by_hand', 'playroom', 'sweep']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_outputs_are_stripped_and_no_machine_is_named(path):
  for cell in cells(path, 'code'):
    assert not cell.outputs and cell.execution_count is None
    assert not re.search(r'[\'"](/|~|[A-Z]:\\)', cell.source), cell.source


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_they_define_no_logic_of_their_own(path):
  logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try)
  for cell in cells(path, 'code'):
    found = [n for n in ast.walk(ast.parse(python(cell)))
             if isinstance(n, logic)]  # fmt: skip
    assert not found, cell.source


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_they_run_from_top_to_bottom(path, tmp_path, monkeypatch):
  monkeypatch.setitem(os.environ, 'JAX_PLATFORMS', 'cpu')
  book = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    book, timeout=600, kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  ).execute()  # fmt: skip
  said = '\n'.join(
    output.get('text', '') for cell in book.cells
    if cell.cell_type == 'code' for output in cell.outputs
  )  # fmt: skip
  assert 'Traceback' not in said
  if path.stem == 'colab_tpu':
    assert 'left out: needs a TPU and the network' in said
