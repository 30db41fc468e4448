"""Records: the objects of a JSON file by number, none of them held in memory.

A file is one array, an array under a key, or an object a line. It is looked
through once for where its records begin and end; a record is parsed when it is
asked for, so that a file of gigabytes costs sixteen bytes a record.
"""

import contextlib
import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rlhfv_jax.data.example import RowError

# Up to the next bracket that is in no string.
_NEXT = re.compile(
  rb'(?:[^][{}"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+([][{}"])', re.DOTALL
)
_FIRST = re.compile(rb'(?:\xef\xbb\xbf)?\s*(.)', re.DOTALL)
_BETWEEN = (re.compile(rb'\s*\{'), re.compile(rb'\s*,\s*\{'))


class Records(Sequence):
  """Objects as dicts. What goes to a worker is the path and the places."""

  def __init__(self, path: str | Path, places: np.ndarray):
    self.path, self.places = Path(path), places  # i64[N,2] bytes
    self._line = 0, 1  # a place, and the line that it is in

  def __reduce__(self):
    return Records, (self.path, self.places)

  def __repr__(self) -> str:
    return f'Records({self.path}, {len(self)})'

  def __len__(self) -> int:
    return len(self.places)

  def __getitem__(self, index: int) -> dict:
    record = parse(self.raw(index))
    if not isinstance(record, dict):
      raise RowError('not an object', f'{str(record)[:60]!r}')
    return record

  def raw(self, index: int) -> bytes:
    start, end = self.places[index].tolist()
    with open(self.path, 'rb') as file:
      file.seek(start)
      return file.read(end - start)

  def files(self) -> list[Path]:
    return [self.path]

  def where(self, index: int) -> str:
    # From where somebody last asked: thousands of bad rows are told in order.
    place, (known, line) = int(self.places[index, 0]), self._line
    if place < known:
      known, line = 0, 1
    with open(self.path, 'rb') as file:
      file.seek(known)
      line += file.read(place - known).count(b'\n')
    self._line = place, line
    return f'{self.path}, row {index} (line {line})'


def read(path: str | Path, key: str | None = None) -> Records:
  """The records of a file; of the array under `key` where one is given."""
  path = Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  if not path.stat().st_size:
    raise ValueError(f'{path}: an empty file')
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    first = _FIRST.match(data)
    kind = first[1] if first else b''
    del first  # a match holds on to the map
    if kind not in (b'[', b'{'):
      raise ValueError(f'{path}: begins with {kind!r}, so it is not JSON')
    try:
      found = list(
        _lines(data) if kind == b'{' and key is None else _objects(data, key)
      )
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
  if not found:
    raise ValueError(f'{path}: no records' + f' under {key!r}' * bool(key))
  return Records(path, np.array(found, np.int64))


def first(table: Records, key: str, most: int = 16) -> list:
  """What stands under a key in the first records that can be read and have
  it."""
  found = []
  for index in range(min(len(table), 1000)):
    with contextlib.suppress(RowError):
      if value := table[index].get(key):
        found.append(value)
    if len(found) == most:
      break
  return found


def parse(raw: bytes) -> object:
  """JSON, or a RowError that says where it stops being that."""
  try:
    return json.loads(raw.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    raise RowError(
      'not UTF-8', f'byte {raw[error.start]:#x} at {error.start}'
    ) from error
  except json.JSONDecodeError as error:
    raise RowError('not JSON', f'{error.msg} at {error.pos}') from error


def _lines(data: mmap.mmap) -> Iterator[tuple[int, int]]:
  at = 0
  while line := data.readline():
    if line.strip():
      yield at, at + len(line)
    at += len(line)


def _objects(data: mmap.mmap, key: str | None) -> Iterator[tuple[int, int]]:
  """Where the objects of the array begin and end."""
  level = 2 if key else 1
  named = key and re.compile(rb'"%s"\s*:\s*\[$' % re.escape(key.encode()))
  depth, count, start, inside = 0, 0, 0, None
  for found in _NEXT.finditer(data):
    if found[1] == b'"':
      break  # a string without an end
    if found[1] in b'[{':
      depth += 1
      if inside is None and found[1] == b'[' and depth == level:
        if not key or named.search(found[0]):
          inside = depth
      elif depth - 1 == inside:
        start = found.end() - 1
        if not _BETWEEN[count > 0].fullmatch(found[0]):
          raise ValueError(
            f'byte {start}: {found[0][-40:]!r} where record {count} should '
            'begin: a comma and an object'
          )
    else:
      depth -= 1
      if depth == inside:
        yield start, found.end()
        count += 1
      elif inside is not None and depth < inside:
        return
  if inside is None:
    raise ValueError(f'no array under {key!r}' if key else 'no array')
  raise ValueError(
    f'cut short after {count} whole records, {len(data)} bytes: its writing '
    'or copying did not end, do it again'
  )
