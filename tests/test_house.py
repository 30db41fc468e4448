"""The house: who may import whom, and how long a file may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'rlhfv_jax'

FLOORS = [
  {
    'batch', 'files', 'hosts', 'process', 'meshes', 'metrics', 'playroom',
    'sharding',
  },
  {'benchmarks', 'data', 'models'},
  {'checkpoint', 'feed', 'generate', 'optim'},
  {'objectives'},
  {
    'annotate', 'answers', 'convert', 'doctor', 'evaluate', 'feedback', 'judge',
    'looks',
    'rankings', 'report', 'reward', 'rollout', 'scoring', 'train',
  },
  {'__main__', 'commands', 'main', 'options', 'preflight', 'stages'},
]  # fmt: skip
FLOOR_OF = {name: n for n, names in enumerate(FLOORS) for name in names}
FILES = sorted(p for p in PACKAGE.rglob('*.py') if p.parent != PACKAGE
               or p.name != '__init__.py')  # fmt: skip
TESTS = sorted((ROOT / 'tests').glob('*.py'))


def room(path: Path) -> str:
  """The room of a file: its package, or the file itself."""
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported(path: Path) -> set[str]:
  """Dotted names of all modules that a file imports, wherever it does."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_from_lower_floors(path):
  own = room(path)
  assert own in FLOOR_OF, f'{own} lives on no floor: put it into FLOORS'
  for name in imported(path):
    parts = name.split('.')
    if parts[0] == 'rlhfv_jax' and len(parts) > 1 and parts[1] != own:
      assert parts[1] in FLOOR_OF, f'{own} imports {name}, which has no floor'
      # Floor 0 and floor 4 are rooms that may look at each other.
      assert FLOOR_OF[parts[1]] <= FLOOR_OF[own], f'{own} imports {name}'


@pytest.mark.parametrize(
  'package, only',
  [
    ('flax.linen', {'models'}),
    ('orbax', {'checkpoint'}),
    ('ml_collections', {'stages', 'main', 'options'}),
  ],
)  # fmt: skip
def test_a_library_is_known_in_one_place(package, only):
  knows = {room(p) for p in FILES for n in imported(p)
           if n == package or n.startswith(package + '.')}  # fmt: skip
  assert knows == only & knows, knows - only
  assert knows


@pytest.mark.parametrize('name', ['data', 'benchmarks', 'playroom'])
def test_numpy_rooms_never_import_jax(name):
  for path in (PACKAGE / name).rglob('*.py'):
    heads = {n.split('.')[0] for n in imported(path)}
    assert not heads & {'jax', 'flax', 'optax'}, path


@pytest.mark.parametrize(
  'what, needless',
  [
    ('rlhfv_jax.data.encode, rlhfv_jax.data.sources',
     {'jax', 'matplotlib', 'torch', 'transformers'}),
    ('rlhfv_jax.main', {'matplotlib', 'tensorflow_datasets', 'torch'}),
  ],
  ids=['a worker that encodes', 'a run'],
)  # fmt: skip
def test_nobody_waits_for_imports_that_are_not_needed_yet(what, needless):
  told = subprocess.run(
    [sys.executable, '-c', f'import sys, {what}; print(*sys.modules)'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert not needless & set(told.stdout.split())


@pytest.mark.parametrize(
  'path', FILES + TESTS, ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_file_is_one_idea_and_says_which(path):
  text = path.read_text()
  if text.strip():
    assert ast.get_docstring(ast.parse(text)), 'the first line says the idea'
  assert len(text.splitlines()) <= 300, 'look for the second idea'
