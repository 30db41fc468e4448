"""Tables: the rows of parquet files by number, a small group at a time."""

import glob
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.storage import places, regroup

KEPT_BYTES = 2**25
IN_ORDER = 4  # rows one after the other, after which a whole group is made
_SHARD = re.compile(r'(.*?)-?(\d+)-of-(\d+)')


class Table(Sequence):
  """Rows, as dicts, of parquet files one after the other.

  The files are mapped, not loaded. What goes to a worker process is the list of
  files; it opens them once, when it is told of them.
  """

  def __init__(self, paths: Sequence[Path]):
    self.paths = tuple(paths)
    self._files = [open_file(regroup.small_groups(p)) for p in self.paths]
    self._groups = [
      (f, g)
      for f, file in enumerate(self._files)
      for g in range(file.metadata.num_row_groups)
    ]
    counts = [
      self._files[f].metadata.row_group(g).num_rows for f, g in self._groups
    ]
    self._ends = np.cumsum([0, *counts])
    files = np.cumsum([0] + [file.metadata.num_rows for file in self._files])
    self._starts = files.tolist()
    self._kept: OrderedDict[int, pa.Table] = OrderedDict()
    self._bytes = 0  # of the groups that are kept
    self._last, self._run = -2, 0  # row asked for, and of how many in order
    self._list: tuple[int, list[dict]] = -1, []  # a group, and its rows
    self._lock = threading.Lock()

  def __reduce__(self):
    return Table, (self.paths,)

  def __repr__(self) -> str:
    return f'Table({[str(path) for path in self.paths]})'

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> dict:
    group = int(np.searchsorted(self._ends, index, side='right')) - 1
    table, place = self._read(group), index - int(self._ends[group])
    self._run = self._run + 1 if index == self._last + 1 else 0
    self._last = index
    if self._run >= IN_ORDER and (rows := self._listed(group, table)):
      return dict(rows[place])
    try:
      (row,) = table.slice(place, 1).to_pylist()
    except UnicodeDecodeError as error:
      raise RowError(
        'not UTF-8', f'byte {error.object[error.start]:#x} in a column of text'
      ) from error
    return row

  @property
  def columns(self) -> list[str]:
    return self._files[0].schema_arrow.names

  def where(self, index: int) -> str:
    file = int(np.searchsorted(self._starts, index, side='right')) - 1
    return f'{self.paths[file]}, row {index - self._starts[file]}'

  def files(self) -> list[Path]:
    return list(self.paths)

  def _listed(self, group: int, table: pa.Table) -> list[dict]:
    """All rows of a group, which costs as much as two or three of them.

    None where one of them does not read.
    """
    known, rows = self._list
    if known != group:
      try:
        rows = table.to_pylist()
      except UnicodeDecodeError:
        rows = []
      self._list = group, rows
    return rows

  def _read(self, group: int) -> pa.Table:
    with self._lock:
      if group not in self._kept:
        f, g = self._groups[group]
        try:
          self._kept[group] = self._files[f].read_row_group(
            g, use_threads=False
          )
        except (pa.ArrowException, OSError) as error:
          raise ValueError(
            f'{self.paths[f]}, group {g}: cannot be read ({short(error)}): '
            'the file is damaged, make it again'
          ) from error
        self._bytes += self._kept[group].nbytes
        while len(self._kept) > 1 and self._bytes > KEPT_BYTES:
          self._bytes -= self._kept.popitem(last=False)[1].nbytes
      self._kept.move_to_end(group)
      return self._kept[group]


def read(
  paths: Iterable[str | Path], columns: Sequence[str], what: str
) -> Table:
  """The rows of files or folders that have these columns: `what` they are."""
  table = Table([file for path in paths for file in files(path)])
  for path, file in zip(table.paths, table._files, strict=True):
    found = file.schema_arrow.names
    missing = [name for name in columns if name not in found]
    if missing:
      raise ValueError(
        f'{path}: no column {", ".join(missing)} among {", ".join(found)}: '
        f'this is not {what}'
      )
  return table


def files(path: str | Path) -> list[Path]:
  """The parquet files that a path means: a file, a folder, or a pattern."""
  path = places.here(path)
  if '://' in path:
    return [places.file(path)]
  path = Path(path)
  if glob.has_magic(str(path)) and not path.exists():
    found = sorted(map(Path, glob.glob(str(path))))
  elif path.is_dir():
    found = sorted(path.glob('*.parquet')) or sorted(
      path.glob('data/*.parquet')
    )
  else:
    return [path]
  if not found:
    raise ValueError(f'{path}: no parquet files')
  _check_shards(path, found)
  return found


def _check_shards(path: Path, found: Sequence[Path]) -> None:
  """One split, all of it."""
  shards = [match for p in found if (match := _SHARD.fullmatch(p.stem))]
  splits = sorted({shard[1] for shard in shards})
  if len(splits) > 1:
    raise ValueError(
      f'{path}: the splits {", ".join(splits)}: name one, as '
      f'{found[0].parent}/{splits[-1]}-*.parquet'
    )
  if shards and len(shards) != int(shards[0][3]):
    raise ValueError(
      f'{path}: {len(shards)} shards of {int(shards[0][3])}: copy the missing '
      'ones'
    )


def open_file(path: Path) -> pq.ParquetFile:
  if not path.exists():
    raise ValueError(f'{path}: no such file')
  try:
    return pq.ParquetFile(
      path, memory_map=True, page_checksum_verification=True
    )
  except (pa.ArrowException, OSError) as error:
    raise ValueError(
      f'{path}: not a whole parquet file, {path.stat().st_size} bytes '
      f'({short(error)}): its writing or copying was cut short, do it again'
    ) from error


def short(error: Exception) -> str:
  return ' '.join(str(error).split())
