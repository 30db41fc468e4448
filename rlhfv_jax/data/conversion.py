"""Conversion: data of one kind as data of another, and what could not be."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from rlhfv_jax import files
from rlhfv_jax.data import lossless, sources
from rlhfv_jax.data.example import Example, RowError, validate

# What conversions write; a folder with anything else in it is not replaced.
_WRITTEN = (
  '.parquet', '.json', '.jsonl', '.tsv', '.lineidx', '.jpg', '.png', '.gif',
  '.webp', '.bmp', '.tif', '.avif', '.bin', '',
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
  path: Path
  rows: int
  rejected: tuple[dict, ...]  # row, where, reason, detail
  list: Path  # of the rejected, a file if there are any


def convert(source: str, target: str, *, force: bool = False) -> Outcome:
  """Writes the rows of 'kind:path' as 'kind:path'; lists those it could not."""
  kind, there = sources.split(target)
  there, options = sources.asked(there)
  module, path = sources.module(kind), Path(there)
  _check_target(kind, module, options)
  rows = Usable(sources.open(source), module, **options)
  _check_free(path, Path(sources.asked(sources.split(source)[1])[0]), force)
  module.write(path, rows, **options)
  listed = Path(f'{path}.rejected.json')
  rejected = tuple(rows.rejected.values())
  if rejected:
    files.write_json(listed, rejected)
  else:
    listed.unlink(missing_ok=True)
  return Outcome(path, len(rows.source) - len(rejected), rejected, listed)


class Usable:
  """The examples that can be written, as often as they are gone through."""

  def __init__(self, source: Sequence[Example], module: ModuleType, **options):
    self.source, self.module, self.options = source, module, options
    self.rejected: dict[int, dict] = {}
    self._passes = 0

  def __iter__(self) -> Iterator[Example]:
    self._passes += 1
    what = 'read' if self._passes == 1 else 'write'
    bar = tqdm(
      range(len(self.source)), desc=what, unit='row', dynamic_ncols=True
    )
    found = 0
    for index in bar:
      if index in self.rejected or (example := self._read(index)) is None:
        continue
      found += 1
      yield example
    if not found:
      first = next(iter(self.rejected.values()), None)
      why = (
        f'{first["reason"]}: {first["detail"]}' if first else 'it has no rows'
      )
      raise ValueError(f'no row could be converted, the first for: {why}')

  def _read(self, index: int) -> Example | None:
    """The row; the first time, whether it can be written."""
    try:
      example = self.source[index]
      if self._passes == 1:
        self._check(example, index)
      return example
    except RowError as error:
      self.rejected[index] = {
        'row': index, 'reason': error.reason, 'detail': error.detail,
      }  # fmt: skip
      return None

  def _check(self, example: Example, index: int) -> None:
    try:
      validate(example)
      if hasattr(self.module, 'check'):
        self.module.check(example, index, **self.options)
      elif hasattr(self.module, 'FORMAT'):
        lossless.to_row(example, index, format=self.module.FORMAT)
    except RowError as error:
      where = getattr(self.source, 'where', lambda index: f'row {index}')
      raise RowError(
        error.reason, f'{where(index)} ({example.id}): {error.detail}'
      ) from error


def _check_target(kind: str, module: ModuleType, options: dict) -> None:
  if not hasattr(module, 'write'):
    able = [k for k in sources.KINDS if hasattr(sources.module(k), 'write')]
    raise ValueError(f'{kind} is only read; written are {", ".join(able)}')
  known = list(inspect.signature(module.write).parameters)[2:]
  for name in options:
    if name not in known:
      raise ValueError(
        f'{kind} is not written with {name!r}, but with '
        f'{", ".join(known) or "nothing"}'
      )


def _check_free(path: Path, source: Path, force: bool) -> None:
  if path.resolve() == source.resolve():
    raise ValueError(f'{path}: it is read from there: write it elsewhere')
  entries = sorted(path.rglob('*')) if path.is_dir() else []
  if not entries and (path.is_dir() or not path.exists()):
    return
  if not force:
    raise ValueError(f'{path}: is there already; --force replaces it')
  odd = [p for p in entries if p.suffix.lower() not in _WRITTEN]
  if odd:
    raise ValueError(
      f'{path}: holds {odd[0].relative_to(path)}, which no conversion wrote: '
      'name another folder'
    )
