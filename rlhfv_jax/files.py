"""Writing so that a reader sees the old file or the new one, never a half.

Of the processes of one run, which all compute the same, one writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_writes = True


def only_read() -> None:
  """From now on nothing is written here: another process writes the same."""
  global _writes
  _writes = False


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
  """A path to write to; on success it becomes `path`, else it is removed."""
  path = Path(path)
  if not _writes:
    with tempfile.TemporaryDirectory() as dropped:
      yield Path(dropped) / path.name
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    yield tmp
    with open(tmp, 'rb') as f:
      os.fsync(f.fileno())
    os.replace(tmp, path)
  finally:
    tmp.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
  """A folder to fill; on success it becomes `path`, else it is removed."""
  path = Path(path)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise ValueError(f'{path} is there already: name another, or delete it')
  tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  tmp.mkdir(parents=True)
  try:
    yield tmp
    if path.exists():
      path.rmdir()
    os.replace(tmp, path)
  finally:
    shutil.rmtree(tmp, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
  with atomic(path) as tmp:
    tmp.write_text(text, encoding='utf-8')


def write_bytes(path: str | Path, content: bytes) -> None:
  with atomic(path) as tmp:
    tmp.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_json(path: str | Path) -> Any:
  try:
    return json.loads(Path(path).read_text(encoding='utf-8'))
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{path}: not JSON ({error}): delete it to redo'
    ) from error


def append_lines(path: str | Path, rows: list[Any]) -> None:
  """Whole JSON lines at once; a killed writer leaves at most one half line."""
  path = Path(path)
  if not _writes:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a', encoding='utf-8') as f:
    f.write(''.join(json.dumps(r) + '\n' for r in rows))
    f.flush()
    os.fsync(f.fileno())


def read_lines(path: str | Path) -> list[Any]:
  """The whole lines of a JSONL file; a half one at its end was not written."""
  path = Path(path)
  if not path.exists():
    return []
  text = path.read_text(encoding='utf-8')
  lines = text.split('\n')[:-1]
  rows = []
  for number, line in enumerate(lines, 1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
  return rows


def write_lines(path: str | Path, rows: list[Any]) -> None:
  write_text(path, ''.join(json.dumps(r) + '\n' for r in rows))
