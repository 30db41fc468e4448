"""UniMM-Chat: instructions, parquet with the conversation in one JSON text.

ds_name, image {bytes, path}, conversation [{from, value}], origin_dataset, idx,
image_path. Its older files are Muffin's TSV, which `muffin_tsv` reads.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.messages import SHAREGPT
from rlhfv_jax.data.storage import columns, tables
from rlhfv_jax.data.storage.lazy import Source

NEEDED = ('image', 'conversation')


def read(path: str | Path) -> Source:
  return Source(
    tables.read([path], NEEDED, 'UniMM-Chat'),
    functools.partial(lossless.to_example, format=FORMAT),
  )


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A `.parquet` file, or a folder of them."""
  export.parquet(path, examples, FORMAT)


def parse(row: dict, index: int) -> Example:
  told = row['conversation']
  if not isinstance(told, list):
    told = pairs.load(told, 'conversation')
  image = pairs.embedded(row['image'])
  return conversation(
    told,
    id=str(index if row.get('idx') is None else row['idx']),
    image=image,
    image_path=row.get('image_path') or '',
    origin=row.get('origin_dataset') or '',
    extra={'ds_name': row['ds_name']} if row.get('ds_name') else {},
  )


def conversation(told: object, *, image: bytes | None, **known) -> Example:
  """Turns up to the last of the user, and the reply that is learned."""
  system, turns = messages.read(told, SHAREGPT, 'conversation')
  if system:
    raise RowError('unknown role', "'system' in conversation: human or gpt")
  answers = ()
  if turns and turns[-1][0] == 'assistant':
    turns, answers = turns[:-1], (turns[-1][1],)
  turns = messages.unmarked(turns, image is not None)
  return Example(image=image, turns=turns, answers=answers, **known)


def said(example: Example) -> list[dict]:
  """The conversation, whose picture everybody puts before its first line."""
  if len(example.answers) > 1:
    raise RowError(
      'not a demonstration', f'{len(example.answers)} answers: there is one'
    )
  last = [('assistant', text) for text in example.answers]
  turns = [(role, pairs.unmarked(text)) for role, text in example.turns]
  return messages.write([*turns, *last], SHAREGPT)


def form(example: Example, index: int) -> dict:
  return {
    'ds_name': str(example.extra.get('ds_name', '')),
    'image': {'bytes': pairs.picture(example), 'path': None},
    'conversation': json.dumps(said(example)),
    'origin_dataset': example.origin,
    'idx': pairs.number(example.id, index),
    'image_path': example.image_path,
  }


FORMAT = lossless.Format(
  'unimm',
  (*NEEDED, 'ds_name', 'origin_dataset', 'idx', 'image_path'),
  parse,
  form,
  {'image': columns.IMAGE},
)
