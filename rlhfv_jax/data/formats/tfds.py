"""TFDS: any data set that TensorFlow Datasets has built, without TensorFlow.

tfds:DIR or tfds:NAME, of which `split` is read. Rows of our own builders are
whole examples; of others, columns that are named as below, or say which ones.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from rlhfv_jax.data.builders import features
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.storage.lazy import Source

COLUMNS = {
  'id': ('id', 'question_id', 'idx'),
  'image': ('image',),
  'question': ('question', 'prompt', 'instruction'),
  'answer': ('answer', 'caption', 'text'),
  'chosen': ('chosen',),
  'rejected': ('rejected',),
}


class Built(Sequence):
  """The rows of a split, pictures still encoded.

  Opened once, in one thread, when it is unpickled in a worker: what TFDS
  imports at the first row would deadlock there among reader threads.
  """

  def __init__(self, folder: str, split: str):
    self.folder, self.split = folder, split
    built = tfds.builder_from_directory(folder)
    if split not in built.info.splits and '[' not in split:
      there = ', '.join(built.info.splits)
      raise ValueError(f'{folder}: no split {split!r}, there are {there}')
    self.features = built.info.features
    skip = {
      name: tfds.decode.SkipDecoding()
      for name, feature in self.features.items()
      if isinstance(feature, tfds.features.Image)
    }
    self._rows = built.as_data_source(split, decoders=skip)
    if len(self):
      self._rows[0]

  def __reduce__(self):
    return Built, (self.folder, self.split)

  def __repr__(self) -> str:
    return f'Built({self.folder}, {self.split})'

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._rows[index]

  def files(self) -> list[Path]:
    return sorted(p for p in Path(self.folder).iterdir() if p.is_file())

  def where(self, index: int) -> str:
    return f'{self.folder}, {self.split}, row {index}'


def read(
  path: str | Path, *, split: str = 'train', ask: str = '', **columns: str
) -> Source:
  """`columns` names what is not named as usual, as question='q'.

  `ask` is the question where the data has none, as for captions.
  """
  rows = Built(_folder(str(path)), split)
  if rows.features.keys() == features.features().keys():
    return Source(rows, _ours)
  found = {
    name: columns.get(name)
    or next((c for c in usual if c in rows.features), '')
    for name, usual in COLUMNS.items()
  }
  wrong = [c for c in found.values() if c and c not in rows.features]
  if wrong or not (found['question'] or ask):
    raise ValueError(
      f'{path}: its columns are {", ".join(rows.features)}: say '
      f'{"which one is not " + wrong[0] if wrong else "question=COLUMN"}, or '
      'ask=TEXT where nothing is asked'
    )
  return Source(rows, functools.partial(_theirs, columns=found, ask=ask))


def _ours(row: dict[str, Any], index: int) -> Example:
  return features.from_row(row)


def _theirs(
  row: dict[str, Any], index: int, *, columns: dict[str, str], ask: str
) -> Example:
  said = {name: _text(row[c]) for name, c in columns.items() if c != 'image'
          and c}  # fmt: skip
  pair = [said[name] for name in ('chosen', 'rejected') if name in said]
  lone = [said[name] for name in ('answer',) if name in said]
  return Example(
    id=said.get('id', str(index)),
    image=row[columns['image']] if columns['image'] else None,
    turns=(('user', said.get('question', ask)),),
    answers=tuple(pair or lone),
    origin='tfds',
    extra={
      name: _plain(value) for name, value in row.items()
      if name not in columns.values()
    },
  )  # fmt: skip


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
  """What JSON can hold."""
  if isinstance(value, dict):
    return {name: _plain(inner) for name, inner in value.items()}
  if isinstance(value, bytes):
    return value.decode('utf-8', 'replace')
  value = value.tolist() if hasattr(value, 'tolist') else value
  return [_plain(v) for v in value] if isinstance(value, list) else value


def _folder(path: str) -> str:
  """Where a data set was built: a folder, or by its name."""
  if (Path(path) / 'features.json').exists():
    return path
  below = (
    sorted(Path(path).rglob('features.json')) if Path(path).is_dir() else []
  )
  if len(below) == 1:
    return str(below[0].parent)
  if below:
    raise ValueError(
      f'{path}: {len(below)} data sets below it, name one: '
      f'{", ".join(str(p.parent) for p in below[:8])}'
    )
  try:
    return str(tfds.builder(path, try_gcs=False).data_path)
  except Exception as error:  # whatever TFDS raises for a name
    raise ValueError(
      f'{path}: no data set of TFDS is there or has that name '
      f'({" ".join(str(error).split())[:120]})'
    ) from error
