"""Shards: rows into a parquet file or a folder of them, all or nothing."""

import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlhfv_jax.data.storage import regroup


def write(
  path: str | Path,
  rows: Iterable[dict],
  schema: pa.Schema,
  *,
  shard_bytes: int = 2**30,
) -> None:
  """Writes a `.parquet` file or, without that suffix, a folder of shards.

  All or nothing: what is at `path` is replaced when the last byte is on disk.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  groups = regroup.groups(rows)
  if (first := next(groups, None)) is None:
    raise ValueError(f'{path}: no examples to write')
  groups = chain([first], groups)
  try:
    if path.suffix == '.parquet':
      _write_file(tmp, groups, schema, None)
    else:
      tmp.mkdir()
      _write_shards(tmp, groups, schema, shard_bytes)
    replace(tmp, path)
  finally:
    forget(tmp)


def _write_shards(
  folder: Path, groups: Iterator, schema: pa.Schema, limit: int
) -> None:
  names = []
  for group in groups:
    names.append(folder / f'{len(names):05}')
    _write_file(names[-1], chain([group], groups), schema, limit)
  for name in names:
    os.replace(name, f'{name}-of-{len(names):05}.parquet')
  sync(folder)


def _write_file(
  path: Path, groups: Iterator, schema: pa.Schema, limit: int | None
) -> None:
  """Writes groups of rows until none are left or the file is large enough."""
  with open(path, 'wb') as file:
    # A picture is compressed already, and text is small beside it.
    with pq.ParquetWriter(
      file,
      schema,
      compression='none',
      use_dictionary=False,
      write_page_checksum=True,
    ) as writer:
      while limit is None or file.tell() < limit:
        if (group := next(groups, None)) is None:
          break
        table = pa.Table.from_pylist(group, schema=schema)
        writer.write_table(table, row_group_size=len(group))
    os.fsync(file.fileno())


def replace(tmp: Path, path: Path) -> None:
  """Puts a file or a folder in the place of what is there."""
  old = tmp.with_suffix('.old')
  if path.is_dir():  # a folder cannot replace one that has files
    os.replace(path, old)
  os.replace(tmp, path)
  sync(path.parent)
  forget(old)


def forget(path: Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
