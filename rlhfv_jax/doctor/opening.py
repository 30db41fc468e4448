"""Opening: the files of a set that can be read, and what ails the others."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from rlhfv_jax.data import mixture, sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.doctor.problems import WHOLE_SET, Case, Found

_FILES = ('*.parquet', 'data/*.parquet', '*.tsv')


def opened(spec: str) -> tuple[Sequence[Example], list[Found]]:
  """The examples at 'kind:path'; of several files, those that can be opened.

  What is wrong with the whole, or with its only file, is an error.
  """
  try:
    return sources.open(spec), []
  except ValueError:
    made, found = [], []
    for part in _parts(spec):
      try:
        made.append(sources.open(part))
      except ValueError as error:
        found.append(('unreadable file', Case(WHOLE_SET, '', str(error))))
    if not found:
      raise
    return mixture.mix(made, [None] * len(made)) if made else (), found


def _parts(spec: str) -> list[str]:
  """The sources of a mixture, or a source for each file of a set."""
  several = [part for _, part in mixture.parse(spec)]
  if len(several) > 1:
    return [part for source in several for part in _parts(source) or [source]]
  kind, path = sources.split(spec)
  path, mark, options = path.partition('?')
  if glob.has_magic(path):
    found = glob.glob(path)
  else:
    patterns = (Path(path).glob(pattern) for pattern in _FILES)
    found = next(filter(None, map(list, patterns)), [])
  if len(found) < 2:
    return []
  return [f'{kind}:{file}{mark}{options}' for file in sorted(found)]
