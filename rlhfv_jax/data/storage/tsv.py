"""TSV: lines of seven columns, the picture in base64, as Muffin stores data.

data set, picture, text (base64 of JSON), origin, split, number, picture's path.
A file is called NAME-ROWS.tsv, and NAME-ROWS.lineidx says where lines begin.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.lossless import Row
from rlhfv_jax.data.storage import places, shards

COLUMNS = (
  'ds_name', 'image', 'text', 'origin_dataset', 'origin_split', 'idx',
  'image_path',
)  # fmt: skip
ROWS_PER_FILE = 500_000  # Muffin takes no more
_CHUNK = 2**24


class Lines(Sequence):
  """Rows of files one after the other; one line is read for each."""

  def __init__(self, paths: Sequence[Path], starts: Sequence[np.ndarray]):
    self.paths, self.starts = tuple(paths), tuple(starts)  # i64 bytes
    self._ends = np.cumsum([0] + [len(s) - 1 for s in starts])

  def __repr__(self) -> str:
    return f'Lines({[str(path) for path in self.paths]})'

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Row:
    file, line = self._at(index)
    start, end = self.starts[file][line : line + 2].tolist()
    with open(self.paths[file], 'rb') as opened:
      opened.seek(start)
      values = opened.read(end - start).rstrip(b'\r\n').split(b'\t')
    if len(values) != len(COLUMNS):
      raise RowError(
        'wrong number of columns', f'{len(values)} instead of {len(COLUMNS)}'
      )
    row = dict(zip(COLUMNS, values, strict=True))
    image, text = (decoded(row.pop(name), name) for name in ('image', 'text'))
    row = {name: utf8(value, name) for name, value in row.items()}
    return {**row, 'image': image or None, 'text': utf8(text, 'text')}

  def where(self, index: int) -> str:
    file, line = self._at(index)
    return f'{self.paths[file]}, line {line + 1}'

  def files(self) -> list[Path]:
    return list(self.paths)

  def _at(self, index: int) -> tuple[int, int]:
    file = int(np.searchsorted(self._ends, index, side='right')) - 1
    return file, index - int(self._ends[file])


def read(path: str | Path) -> Lines:
  path = places.local(path)
  paths = sorted(path.glob('*.tsv')) if path.is_dir() else [path]
  if not paths:
    raise ValueError(f'{path}: no TSV files')
  starts = [_starts(p) for p in paths]
  for p, found in zip(paths, starts, strict=True):
    said = p.stem.rpartition('-')[2]
    if said.isdecimal() and int(said) != len(found) - 1:
      raise ValueError(
        f'{p}: {len(found) - 1} lines, and its name says {int(said)}: its '
        'writing or copying was cut short, do it again'
      )
  return Lines(paths, starts)


def _starts(path: Path) -> np.ndarray:
  """i64[lines+1]: where each line begins, and where the last one ends."""
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  found, at = [np.zeros(1, np.int64)], 0
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord('\n'))
      found.append(ends + at + 1)
      at += len(chunk)
  starts = np.concatenate(found)
  return starts if starts[-1] == at else np.append(starts, at)


def decoded(value: bytes, name: str) -> bytes:
  try:
    return base64.b64decode(value, validate=True)
  except binascii.Error as error:
    raise RowError('not base64', f'{name}: {error}') from error


def utf8(value: bytes, name: str) -> str:
  try:
    return value.decode()
  except UnicodeDecodeError as error:
    raise RowError(
      'not UTF-8', f'byte {value[error.start]:#x} at {error.start} of {name}'
    ) from error


def write(folder: str | Path, rows: Iterable[Row]) -> None:
  """A folder of NAME-ROWS.tsv, of which there are several past 500,000 rows.

  Files of that name that were there before go when the new ones are written.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  old = [*folder.glob(f'{folder.name}*.tsv'), *folder.glob('*.lineidx')]
  rows, made = iter(rows), []
  while group := _write_file(folder / f'.{os.getpid()}-{len(made)}.tmp', rows):
    made.append(group)
  if not made:
    raise ValueError(f'{folder}: no examples to write')
  names = []
  for number, (tmp, starts) in enumerate(made):
    part = f'_{number}' if len(made) > 1 else ''
    names.append(folder / f'{folder.name}{part}-{len(starts)}.tsv')
    index = names[-1].with_suffix('.lineidx')
    index.write_text(''.join(f'{start}\n' for start in starts))
    os.replace(tmp, names[-1])
    names.append(index)
  for path in set(old) - set(names):
    path.unlink()
  shards.sync(folder)


def _write_file(
  tmp: Path, rows: Iterator[Row]
) -> tuple[Path, list[int]] | None:
  starts, at = [], 0
  try:
    with open(tmp, 'wb') as file:
      for row in islice(rows, ROWS_PER_FILE):
        starts.append(at)
        at += file.write(line(row))
      os.fsync(file.fileno())
  except BaseException:
    tmp.unlink()
    raise
  if starts:
    return tmp, starts
  tmp.unlink()
  return None


def line(row: Row) -> bytes:
  values = []
  for name in COLUMNS:
    value = row[name]
    if name in ('image', 'text'):
      encoded = value.encode() if isinstance(value, str) else value or b''
      values.append(base64.b64encode(encoded))
    elif set(value) & set('\t\r\n'):
      raise RowError('a tab or a new line', f'{name} {value!r} in a TSV file')
    else:
      values.append(value.encode())
  return b'\t'.join(values) + b'\n'
