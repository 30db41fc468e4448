"""Regroup: parquet files whose rows cannot be reached one by one, made so.

People write a file of pictures as one row group of a gigabyte, which has to be
read whole for the sake of one row. Such a file is copied once, in small groups.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from rlhfv_jax import files

READ_BYTES = 2**24  # more than this is too much to read for one row
GROUP_BYTES, GROUP_ROWS = 2**20, 256


def cache() -> Path:
  """$RLHFV_JAX_CACHE, or a folder of the user's own."""
  folder = os.environ.get('RLHFV_JAX_CACHE')
  return Path(folder) if folder else Path.home() / '.cache' / 'rlhfv_jax'


def small_groups(path: Path) -> Path:
  """The file, or its copy where its row groups are too large."""
  try:
    metadata = pq.read_metadata(path)
  except (pa.ArrowException, OSError):
    return path  # whoever opens it says what is wrong
  groups = map(metadata.row_group, range(metadata.num_row_groups))
  if all(g.num_rows == 1 or g.total_byte_size <= READ_BYTES for g in groups):
    return path
  stat = path.stat()
  named = f'{path.resolve()} {stat.st_size} {stat.st_mtime_ns}'.encode()
  key = hashlib.blake2b(named, digest_size=8).hexdigest()
  copy = cache() / 'tables' / f'{path.stem}-{key}.parquet'
  if not copy.exists():
    try:
      _copy(path, copy, metadata.num_rows)
    except OSError as error:
      raise ValueError(
        f'{path}: its row groups are too large to read a row, and no copy in '
        f'small ones could be made at {copy} ({error}): set RLHFV_JAX_CACHE to '
        f'a folder with {stat.st_size >> 20} MiB to spare'
      ) from error
  return copy


def _copy(path: Path, copy: Path, rows: int) -> None:
  source = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
  bar = tqdm(total=rows, desc=f'regroup {path.name}', unit='row',
             dynamic_ncols=True)  # fmt: skip
  with (
    bar,
    files.atomic(copy) as tmp,
    pq.ParquetWriter(
      tmp, source.schema_arrow, compression='none', use_dictionary=False,
      write_page_checksum=True,
    ) as writer,
  ):  # fmt: skip
    for batch in source.iter_batches(batch_size=64):
      for rows in _halves(pa.Table.from_batches([batch])):
        writer.write_table(rows, row_group_size=len(rows))
      bar.update(len(batch))


def _halves(table: pa.Table) -> Iterator[pa.Table]:
  if len(table) > 1 and table.nbytes > GROUP_BYTES:
    middle = len(table) // 2
    yield from _halves(table.slice(0, middle))
    yield from _halves(table.slice(middle))
  else:
    yield table


def groups(rows: Iterable[dict]) -> Iterator[list[dict]]:
  """Rows in groups small enough to read for the sake of one of them."""
  group, size = [], 0
  for row in rows:
    group.append(row)
    size += _bytes(row)
    if size >= GROUP_BYTES or len(group) == GROUP_ROWS:
      yield group
      group, size = [], 0
  if group:
    yield group


def _bytes(value: Any) -> int:
  """Of pictures; text is small beside them."""
  if isinstance(value, bytes):
    return len(value)
  if isinstance(value, dict):
    return sum(map(_bytes, value.values()))
  if isinstance(value, list):
    return sum(map(_bytes, value))
  return 0
