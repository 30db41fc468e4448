"""RLHF-V-Dataset: parquet, the question and both answers in one JSON text.

ds_name, image {bytes, path}, text {question, chosen, rejected}, origin_dataset,
origin_split (JSON: the model that was corrected), idx, image_path. Muffin's
cached copy has six `logps` more in `text`.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from rlhfv_jax.data import export, lossless, pairs
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.storage import columns, tables
from rlhfv_jax.data.storage.lazy import Source

WHAT = 'RLHF-V-Dataset'


def read(path: str | Path) -> Source:
  files = tables.files(path)
  cached = [file for file in files if 'logp' in file.name]
  if cached and len(cached) < len(files):
    raise ValueError(
      f'{path}: the same rows with log-probs ({cached[0].name}) and without: '
      'name one of the files'
    )
  return Source(
    tables.read(files, ('image', 'text'), WHAT),
    functools.partial(lossless.to_example, format=FORMAT),
  )


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A `.parquet` file, or a folder of them."""
  export.parquet(path, examples, FORMAT)


def parse(row: dict, index: int) -> Example:
  told = row['text']
  if not isinstance(told, dict):
    told = pairs.load(told, 'text')
  asked, chosen, rejected = (
    pairs.entry(told, key, 'text') for key in ('question', 'chosen', 'rejected')
  )
  logps = {'logps': told['logps']} if told.get('logps') else {}
  return Example(
    id=str(index if row.get('idx') is None else row['idx']),
    image=pairs.embedded(row['image']),
    turns=(('user', asked),),
    answers=(chosen, rejected),
    image_path=row.get('image_path') or '',
    origin=row.get('origin_dataset') or '',
    model=pairs.model_of(row.get('origin_split')),
    extra=pairs.origin(row) | logps,
  )


def form(example: Example, index: int) -> dict:
  chosen, rejected = pairs.answers(example)
  text = {
    'question': pairs.question(example),
    'chosen': chosen,
    'rejected': rejected,
  }
  if logps := pairs.logps(example):
    text['logps'] = logps
  return {
    'ds_name': str(example.extra.get('ds_name', '')),
    'image': {'bytes': pairs.picture(example), 'path': None},
    'text': json.dumps(text),
    'origin_dataset': example.origin,
    'origin_split': pairs.origin_split(example),
    'idx': pairs.number(example.id, index),
    'image_path': example.image_path,
  }


FORMAT = lossless.Format(
  'rlhfv',
  (
    'ds_name', 'image', 'text', 'origin_dataset', 'origin_split', 'idx',
    'image_path',
  ),
  parse,
  form,
  {'image': columns.IMAGE},
)  # fmt: skip
