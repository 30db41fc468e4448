"""Beside: rows of a parquet file or of records with their pictures beside them.

Either way a row's pictures are {bytes, path}, so a format need not ask which.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from rlhfv_jax import files
from rlhfv_jax.data import imagetype
from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.lossless import Row, jsonable
from rlhfv_jax.data.storage import folders, places, records, tables
from rlhfv_jax.data.storage.lazy import Table

RECORDS = ('.json', '.jsonl')
_PICTURES = (
  '.jpg', '.jpeg', '.png', '.gif', '.webp', '.bmp', '.tif', '.tiff', '.avif',
)  # fmt: skip


class Beside(Sequence):
  """Records whose pictures are read from a folder when a row is asked for."""

  def __init__(self, table: records.Records, column: str, folder: str | Path):
    self.table, self.column, self.folder = table, column, str(folder)

  def __len__(self) -> int:
    return len(self.table)

  def __repr__(self) -> str:
    return f'Beside({self.table!r}, {self.folder!r})'

  def __getitem__(self, index: int) -> Row:
    row = self.table[index]
    named = row.get(self.column)
    if isinstance(named, list):
      return {**row, self.column: [self._picture(name) for name in named]}
    return {**row, self.column: self._picture(named)} if named else row

  def where(self, index: int) -> str:
    return self.table.where(index)

  @property
  def columns(self) -> list[str]:
    """What the first rows have."""
    found = {}
    for index in range(min(len(self), 10)):
      with contextlib.suppress(RowError):
        found |= self.table[index]
    return list(found)

  def files(self) -> list[Path]:
    return self.table.files()

  def _picture(self, name: str | dict) -> dict:
    if isinstance(name, dict):
      name = name.get('path')
    return {'bytes': folders.picture(self.folder, name), 'path': name}


def read(
  path: str | Path,
  columns: Sequence[str],
  what: str,
  *,
  column: str = 'images',
  images: str | Path | None = None,
) -> Table:
  """A parquet file, a JSON file, or a folder of either."""
  if str(path).endswith('.parquet'):
    return tables.read([path], columns, what)
  path = places.local(path)
  if path.is_dir():
    found = sorted(p for p in path.iterdir() if p.suffix in RECORDS)
    found = [p for p in found if p.name != 'dataset_info.json']
    if not found or list(path.glob('*.parquet')):
      return tables.read([path], columns, what)
    if len(found) > 1:
      names = ', '.join(p.name for p in found)
      raise ValueError(f'{path}: one JSON file is read, here are {names}')
    path = found[0]
  if path.suffix not in RECORDS:
    return tables.read([path], columns, what)
  table = Beside(records.read(path), column, images or path.parent)
  found = table.columns
  missing = [name for name in columns if name not in found]
  if missing and found:
    raise ValueError(
      f'{path}: no key {", ".join(missing)} among {", ".join(found)}: this is '
      f'not {what}'
    )
  return table


def write(
  path: str | Path, rows: Iterable[Row], *, column: str = 'images'
) -> None:
  """Pictures first, the records last; so a record's picture is always there.

  A picture that is there is not written again, and none is written over.
  """
  path, count = Path(path), 0
  with files.atomic(path) as tmp, open(tmp, 'w', encoding='utf-8') as file:
    for count, row in enumerate(rows, 1):
      text = _text(jsonable(_placed(row, column, path.parent)))
      if path.suffix == '.json':
        text = ('[\n' if count == 1 else ',\n') + text
      else:
        text += '\n'
      file.write(text)
    file.write('\n]\n' if path.suffix == '.json' else '')
    if not count:
      raise ValueError(f'{path}: no examples to write')


def _placed(row: Row, column: str, folder: Path) -> Row:
  """The row with names for pictures, each of which is on disk.

  A picture that could not keep its name says which it had.
  """
  if not row.get(column):
    column = 'image'  # which some say instead of a list of one
  if not (held := row.get(column)):
    return row
  several = held if isinstance(held, list) else [held]
  names = [_place(picture, folder) for picture in several]
  row = {**row, column: names if isinstance(held, list) else names[0]}
  had = several[0].get('path')
  return {'image_path': had, **row} if had and had != names[0] else row


def _place(picture: dict, folder: Path) -> str:
  """Under its own name where that is one and free, else under its content's."""
  encoded, name = picture['bytes'], picture.get('path') or ''
  if _may_be(name) and put(folder / name, encoded):
    return name
  key = hashlib.blake2b(encoded, digest_size=16).hexdigest()
  name = f'images/{key}.{imagetype.of(encoded) or "bin"}'
  if not put(folder / name, encoded):
    raise RowError('no place for the picture', f'{folder / name} is taken')
  return name


def _may_be(name: str) -> bool:
  """A picture's name that stays in its folder."""
  path = PurePosixPath(name)
  inside = not path.is_absolute() and '..' not in path.parts
  short = len(name.encode('utf-8', 'replace')) <= 240 and name.isprintable()
  named = str(path) == name and path.suffix.lower() in _PICTURES
  return inside and short and named


def put(path: Path, encoded: bytes) -> bool:
  """Writes the picture, unless there is another; whether it is there now."""
  try:
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encoded)
    return path.is_file() and path.read_bytes() == encoded
  except (ValueError, FileExistsError, NotADirectoryError):
    return False


def _text(row: Row) -> str:
  text = json.dumps(row, ensure_ascii=False)
  try:
    text.encode()
  except UnicodeEncodeError:  # half a character, which only escapes can say
    return json.dumps(row)
  return text
