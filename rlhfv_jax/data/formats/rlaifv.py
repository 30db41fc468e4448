"""RLAIF-V-Dataset: parquet, the question and both answers in columns.

ds_name, image {bytes, path}, question, chosen, rejected, origin_dataset,
origin_split (JSON), idx (text), image_path; with cached log-probs, `logps`
(JSON) too.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from rlhfv_jax.data import export, lossless, pairs
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.storage import columns, tables
from rlhfv_jax.data.storage.lazy import Source

NEEDED = ('image', 'question', 'chosen', 'rejected')


def read(path: str | Path) -> Source:
  return Source(
    tables.read([path], NEEDED, 'RLAIF-V-Dataset'),
    functools.partial(lossless.to_example, format=FORMAT),
  )


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A `.parquet` file, or a folder of them."""
  export.parquet(path, examples, FORMAT)


def parse(row: dict, index: int) -> Example:
  extra = pairs.origin(row)
  if row.get('logps') is not None:
    told = pairs.load(row['logps'], 'logps')
    extra['logps'] = pairs.entry(told, 'logps', 'logps')
  return Example(
    id=str(index if row.get('idx') is None else row['idx']),
    image=pairs.embedded(row['image']),
    turns=(('user', row['question']),),
    answers=(row['chosen'], row['rejected']),
    image_path=row.get('image_path') or '',
    origin=row.get('origin_dataset') or '',
    model=pairs.model_of(row.get('origin_split')),
    extra=extra,
  )


def form(example: Example, index: int) -> dict:
  chosen, rejected = pairs.answers(example)
  row = {
    'ds_name': str(example.extra.get('ds_name', '')),
    'image': {'bytes': pairs.picture(example), 'path': None},
    'question': pairs.question(example),
    'chosen': chosen,
    'rejected': rejected,
    'origin_dataset': example.origin,
    'origin_split': pairs.origin_split(example),
    'idx': example.id,
    'image_path': example.image_path,
  }
  if logps := pairs.logps(example):
    row['logps'] = json.dumps({'logps': logps})
  return row


FORMAT = lossless.Format(
  'rlaifv',
  (
    *NEEDED, 'ds_name', 'origin_dataset', 'origin_split', 'idx', 'image_path',
    'logps',
  ),
  parse,
  form,
  {'image': columns.IMAGE},
)  # fmt: skip
