"""Sources: examples on disk, as parquet files in a schema of our own.

Columns `id`, `image` {bytes, path} (as Hugging Face's datasets has it), `turns`
[{role, text}], `answers` [text], `spans` [[{start, end, category}]] or null.
"""

import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhfv_jax.data.rows import Example

SCHEMA = pa.schema(
  [
    ('id', pa.string()),
    ('image', pa.struct([('bytes', pa.binary()), ('path', pa.string())])),
    (
      'turns',
      pa.list_(pa.struct([('role', pa.string()), ('text', pa.string())])),
    ),
    ('answers', pa.list_(pa.string())),
    (
      'spans',
      pa.list_(
        pa.list_(
          pa.struct(
            [
              ('start', pa.int32()),
              ('end', pa.int32()),
              ('category', pa.string()),
            ]
          )
        )
      ),
    ),
  ]
)
GROUP_BYTES, GROUP_ROWS, GROUPS_KEPT = 2**20, 256, 16


def write(
  path: str | Path, examples: Iterable[Example], *, shard_bytes: int = 2**30
) -> None:
  """Writes a `.parquet` file or, without that suffix, a folder of shards.

  All or nothing: what is at `path` is replaced when the last byte is on disk.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  old = tmp.with_suffix('.old')
  groups = _groups(examples)
  if (first := next(groups, None)) is None:
    raise ValueError(f'{path}: no examples to write')
  try:
    if path.suffix == '.parquet':
      _write_file(tmp, chain([first], groups), None)
    else:
      tmp.mkdir()
      _write_shards(tmp, chain([first], groups), shard_bytes)
      if path.exists():  # a folder cannot replace one that has files
        os.replace(path, old)
    os.replace(tmp, path)
    _sync(path.parent)
  finally:
    _forget(tmp)
  _forget(old)


def _write_shards(folder: Path, groups: Iterator, shard_bytes: int) -> None:
  names = []
  for group in groups:
    names.append(folder / f'{len(names):05}')
    _write_file(names[-1], chain([group], groups), shard_bytes)
  for name in names:
    os.replace(name, f'{name}-of-{len(names):05}.parquet')
  _sync(folder)


def _write_file(path: Path, groups: Iterator, limit: int | None) -> None:
  """Writes groups of rows until none are left or the file is large enough."""
  with open(path, 'wb') as file:
    # A picture is compressed already, and text is small beside it.
    with pq.ParquetWriter(
      file,
      SCHEMA,
      compression='none',
      use_dictionary=False,
      write_page_checksum=True,
    ) as writer:
      while limit is None or file.tell() < limit:
        if (group := next(groups, None)) is None:
          break
        table = pa.Table.from_pylist(group, schema=SCHEMA)
        writer.write_table(table, row_group_size=len(group))
    os.fsync(file.fileno())


def _groups(examples: Iterable[Example]) -> Iterator[list[dict]]:
  """Rows in groups small enough to read for the sake of one of them."""
  group, size = [], 0
  for example in examples:
    group.append(_to_row(example))
    size += len(example.image or b'')
    if size >= GROUP_BYTES or len(group) == GROUP_ROWS:
      yield group
      group, size = [], 0
  if group:
    yield group


def _to_row(example: Example) -> dict:
  spans = example.spans
  return {
    'id': example.id,
    'image': example.image and {'bytes': example.image, 'path': None},
    'turns': [{'role': role, 'text': text} for role, text in example.turns],
    'answers': list(example.answers),
    'spans': spans
    and [
      [{'start': s, 'end': e, 'category': kind} for s, e, kind in answer]
      for answer in spans
    ],
  }


def _from_row(row: dict) -> Example:
  image, spans = row['image'], row['spans']
  return Example(
    id=row['id'],
    image=image and image['bytes'],
    turns=tuple((turn['role'], turn['text']) for turn in row['turns']),
    answers=tuple(row['answers']),
    spans=spans
    and tuple(
      tuple((s['start'], s['end'], s['category']) for s in answer)
      for answer in spans
    ),
  )


class Source(Sequence):
  """Examples of parquet files by number, a small group of rows at a time.

  The files are mapped, not loaded. What goes to a worker process is the list of
  files; it opens them once, when it is told of them.
  """

  def __init__(self, paths: Sequence[Path]):
    self.paths = tuple(paths)
    self._files = [_open(path) for path in self.paths]
    self._groups = [
      (f, g)
      for f, file in enumerate(self._files)
      for g in range(file.metadata.num_row_groups)
    ]
    counts = [
      self._files[f].metadata.row_group(g).num_rows for f, g in self._groups
    ]
    self._ends = np.cumsum([0, *counts])
    self._kept: OrderedDict[int, list[dict]] = OrderedDict()
    self._lock = threading.Lock()

  def __reduce__(self):
    return Source, (self.paths,)

  def __repr__(self) -> str:
    return f'Source({[str(path) for path in self.paths]})'

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < len(self):
      raise IndexError(f'row {index} of {len(self)}')
    group = int(np.searchsorted(self._ends, index, side='right')) - 1
    table = self._read(group)
    (row,) = table.slice(index - int(self._ends[group]), 1).to_pylist()
    return _from_row(row)

  def _read(self, group: int) -> pa.Table:
    with self._lock:
      if group not in self._kept:
        f, g = self._groups[group]
        try:
          self._kept[group] = self._files[f].read_row_group(g)
        except (pa.ArrowException, OSError) as error:
          raise ValueError(
            f'{self.paths[f]}, group {g}: cannot be read ({_short(error)}): '
            'the file is damaged, make it again'
          ) from error
        if len(self._kept) > GROUPS_KEPT:
          self._kept.popitem(last=False)
      self._kept.move_to_end(group)
      return self._kept[group]


def read(*paths: str | Path) -> Source:
  """The examples of one or more files or folders, one after the other."""
  return Source([file for path in paths for file in _files(Path(path))])


def _files(path: Path) -> list[Path]:
  if not path.is_dir():
    return [path]
  found = sorted(path.glob('*.parquet'))
  if not found:
    raise ValueError(f'{path}: no parquet files')
  total = found[0].stem.rpartition('-of-')[2]
  if total.isdigit() and int(total) != len(found):
    raise ValueError(
      f'{path}: {len(found)} shards of {int(total)}: copy the missing ones'
    )
  return found


def _open(path: Path) -> pq.ParquetFile:
  if not path.exists():
    raise ValueError(f'{path}: no such file')
  try:
    file = pq.ParquetFile(
      path, memory_map=True, page_checksum_verification=True
    )
  except (pa.ArrowException, OSError) as error:
    raise ValueError(
      f'{path}: not a whole parquet file, {path.stat().st_size} bytes '
      f'({_short(error)}): its writing or copying was cut short, do it again'
    ) from error
  found = file.schema_arrow.names
  missing = [name for name in SCHEMA.names if name not in found]
  if missing:
    raise ValueError(
      f'{path}: no column {", ".join(missing)} among {", ".join(found)}: this '
      'is not a file of examples as `sources.write` makes them'
    )
  return file


def digest(path: str | Path) -> str:
  """Names the content: the same for equal examples, however they are stored."""
  total = hashlib.blake2b(digest_size=16)
  for example in read(path):
    image = hashlib.blake2b(example.image or b'').hexdigest()
    told = (example.id, image, example.turns, example.answers, example.spans)
    total.update(repr(told).encode())
  return total.hexdigest()


def _short(error: Exception) -> str:
  return ' '.join(str(error).split())


def _forget(path: Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
