"""results.json, whoever wrote it: what each model scored in each benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked, playroom
from rlhfv_jax.report import findings

VERSION = 1  # of benchmark results; raised when a field changes its meaning


class Entry(NamedTuple):
  """A model with its results, and the folder that has its answers."""

  name: str
  folder: Path
  model: str  # in the names of a training run's files; else empty
  results: dict[str, dict]  # by benchmark

  def answers(self, benchmark: str) -> list[dict]:
    """id, question and answer of each; none if they were not kept."""
    asks = {'overgeneralization': 'objhal'}.get(benchmark, benchmark)
    if not self.model:
      return files.read_lines(self.folder / 'answers' / f'{asks}.jsonl')
    return _said(self.folder, self.model)


def read(paths: Sequence[str | Path]) -> list[Entry]:
  """The models in these files, by the shortest names that tell them apart.

  Of a training run its outcome is meant; of one alone, its base too.
  """
  found = [_file(Path(path)) for path in paths]
  places = _short([path for path, _ in found])
  entries = []
  for (path, content), place in zip(found, places, strict=True):
    if 'benchmarks' in content:
      _check(path, content)
      entries.append(Entry(place, path.parent, '', content['benchmarks']))
      continue
    models = [m for m in findings.compared(content) if m is not None]
    for model in models if len(found) == 1 else models[-1:]:
      result = _rescored(path, content, model)
      entries.append(Entry(f'{place} {model}', path.parent, model, result))
  names = asked.unique(entry.name for entry in entries)
  return [e._replace(name=n) for e, n in zip(entries, names, strict=True)]


def _file(path: Path) -> tuple[Path, dict]:
  path = path / 'results.json' if path.is_dir() else path
  if not path.exists():
    raise ValueError(
      f'{path} is not there: name the results.json of an evaluation or a run'
    )
  content = files.read_json(path)
  if not isinstance(content, Mapping) or not (
    content.get('benchmarks') or content.get('models')
  ):
    raise ValueError(
      f'{path} has neither "benchmarks" nor "models": it is no results.json of '
      'an evaluation or a run'
    )
  return path, content


def _check(path: Path, content: Mapping[str, Any]) -> None:
  if content.get('version') != VERSION:
    raise ValueError(
      f'{path} is of version {content.get("version")} and this code reads '
      f'version {VERSION}: delete it and run the evaluation again, its answers '
      "and the judge's replies are kept"
    )
  for name, result in content['benchmarks'].items():
    if missing := {'metrics', 'answers', 'settings'} - set(result):
      raise ValueError(f'{path}: {name} lacks {", ".join(sorted(missing))}')


def _rescored(path: Path, content: Mapping, model: str) -> dict[str, dict]:
  """A training run's model in the playroom, answer by answer."""
  truth = path.parent / 'truth'
  said = _said(path.parent, model)
  if not said or not truth.is_dir():
    raise ValueError(
      f'{path} is of a training run, and the answers of {model} or their '
      'truth/ are not beside it: copy the whole folder'
    )
  result = playroom.score(said, truth)
  return {
    'playroom': {
      **result,
      'n': len(said),
      'judge': 'the scenes',
      'decoding': content.get('decoding', {}),
      'data': {'path': {'path': str(truth)}},
    }
  }


def _said(folder: Path, model: str) -> list[dict]:
  names = (model, f'{model}-unseen', f'{model}-ask')
  paths = [folder / 'answers' / f'{name}.jsonl' for name in names]
  return [row for path in paths for row in files.read_lines(path)]


def _short(paths: Sequence[Path]) -> list[str]:
  """The folders by as many of their last names as tell them apart."""
  parts = [path.absolute().parent.parts for path in paths]
  for n in range(1, max(map(len, parts)) + 1):
    names = ['/'.join(p[-n:]) for p in parts]
    if len(set(names)) == len(set(parts)):
      return names
  return names
