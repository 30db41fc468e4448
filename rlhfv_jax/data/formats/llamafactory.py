"""LLaMA-Factory: sharegpt with ranking, as JSON with pictures or as parquet.

conversations [{from, value}] that end with the human, chosen and rejected
{from, value}, images [name], and one <image> in the text. What the columns and
tags are called stands in the dataset_info.json beside the file.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from rlhfv_jax import files
from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.messages import OPENAI, SHAREGPT
from rlhfv_jax.data.storage import beside, columns, records
from rlhfv_jax.data.storage.lazy import Source, Table

INFO, DATA = 'dataset_info.json', 'data.json'
_NAMES = {'messages': 'conversations', 'system': 'system'}
_TAGS = f'{lossless.OWN}llamafactory.tags'


def read(path: str | Path, *, images: str | Path | None = None) -> Source:
  """A file, or a folder with one; `images` is the folder of its pictures."""
  path = Path(path)
  entry = _entry(path)
  names = {_NAMES.get(k, k): v for k, v in entry.get('columns', {}).items()}
  names = {ours: theirs for ours, theirs in names.items() if ours != theirs}
  if path.is_dir() and entry.get('file_name'):
    path = path / entry['file_name']
  needed = [
    names.get(name, name) for name in ('conversations', 'chosen', 'rejected')
  ]
  table = beside.read(
    path, needed, "LLaMA-Factory's ranking data",
    column=names.get('images', 'images'), images=images,
  )  # fmt: skip
  if names:
    table = Renamed(table, names)
  return Source(table, functools.partial(lossless.to_example, format=FORMAT))


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A folder to give as dataset_dir, or a .json or .parquet file."""
  path = Path(path)
  if path.suffix == '.parquet':
    export.parquet(path, examples, FORMAT)
  elif path.suffix in beside.RECORDS:
    export.records(path, examples, FORMAT)
  else:
    export.records(path / DATA, examples, FORMAT)
    first = records.read(path / DATA)[0]['conversations']
    tags = {'tags': TAGS} if 'role' in first[0] else {}
    files.write_json(path / INFO, {path.name: ENTRY | tags})


class Renamed(Sequence):
  """A table whose columns are called differently. No row is changed on disk."""

  def __init__(self, table: Table, names: dict[str, str]):
    self.table, self.names = table, names

  def __len__(self) -> int:
    return len(self.table)

  def __getitem__(self, index: int) -> dict:
    row = dict(self.table[index])
    for ours, theirs in self.names.items():
      if theirs in row:
        row[ours] = row.pop(theirs)
    return row

  def files(self) -> list[Path]:
    return self.table.files()

  def where(self, index: int) -> str:
    return self.table.where(index)

  def __repr__(self) -> str:
    return f'Renamed({self.table!r})'


def _entry(path: Path) -> dict:
  """What dataset_info.json says of the file, or of the only ranking data."""
  folder = path if path.is_dir() else path.parent
  if not (folder / INFO).exists():
    return {}
  told = files.read_json(folder / INFO)
  if path.is_dir():
    found = [entry for entry in told.values() if entry.get('ranking')]
    if len(found) > 1:
      names = ', '.join(str(entry.get('file_name')) for entry in found)
      raise ValueError(
        f'{path / INFO}: several ranking sets: name one of {names}'
      )
  else:
    found = [e for e in told.values() if e.get('file_name') == path.name]
  return found[0] if found else {}


def parse(row: dict, index: int) -> Example:
  told = row.get('conversations')
  openai = bool(told) and isinstance(told, list) and 'role' in told[0]
  tags = OPENAI if openai else SHAREGPT
  system, turns = messages.read(told, tags, 'conversations')
  if row.get('system') and not system:
    system = row['system']
  picture = messages.picture(row.get('images'))
  extra = {'system': system} if system else {}
  return Example(
    id=str(index),
    image=pairs.embedded(picture or None),
    turns=messages.unmarked(turns, bool(picture)),
    answers=tuple(_answer(row, name, tags) for name in ('chosen', 'rejected')),
    image_path=picture.get('path') or '',
    extra=extra | ({_TAGS: 'openai'} if openai else {}),
  )


def _answer(row: dict, name: str, tags: messages.Tags) -> str:
  message = pairs.entry(row, name, 'the row')
  if messages.speaker(message, tags, name) != tags.assistant:
    raise RowError('malformed turn', f'{name} is not from {tags.assistant}')
  return messages.said(message, tags, name)


def form(example: Example, index: int) -> dict:
  tags = OPENAI if example.extra.get(_TAGS) else SHAREGPT
  answers = [('assistant', text) for text in pairs.answers(example)]
  chosen, rejected = messages.write(answers, tags)
  row = {
    'images': messages.pictures(example),
    'conversations': messages.write(messages.marked(example), tags),
    'chosen': chosen,
    'rejected': rejected,
  }
  if system := example.extra.get('system'):
    row['system'] = system
  return row


ENTRY = {
  'file_name': DATA,
  'formatting': 'sharegpt',
  'ranking': True,
  'columns': {
    'messages': 'conversations',
    'chosen': 'chosen',
    'rejected': 'rejected',
    'images': 'images',
  },
}
TAGS = {
  'role_tag': 'role',
  'content_tag': 'content',
  'user_tag': 'user',
  'assistant_tag': 'assistant',
}
FORMAT = lossless.Format(
  'llamafactory',
  ('conversations', 'chosen', 'rejected', 'images', 'system'),
  parse,
  form,
  {'images': pa.list_(columns.IMAGE)},
)
