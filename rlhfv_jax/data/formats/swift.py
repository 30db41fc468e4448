"""ms-swift: messages whose last reply is preferred, and the rejected one.

{"messages": [{role, content}], "rejected_response": "...", "images": [name]}, a
line each, with one <image> in the text. Names are of files under
ROOT_IMAGE_DIR. The rejected side may be whole messages as well.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.messages import OPENAI
from rlhfv_jax.data.storage import beside, columns
from rlhfv_jax.data.storage.lazy import Source

DATA = 'data.jsonl'


def read(path: str | Path, *, images: str | Path | None = None) -> Source:
  """A file, or a folder with one; `images` is the folder of its pictures."""
  table = beside.read(path, ('messages',), 'data of ms-swift', images=images)
  return Source(table, functools.partial(lossless.to_example, format=FORMAT))


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A folder with a data.jsonl and its pictures, or such a file."""
  path = Path(path)
  if path.suffix == '.parquet':
    export.parquet(path, examples, FORMAT)
  else:
    file = path if path.suffix in beside.RECORDS else path / DATA
    export.records(file, examples, FORMAT)


def parse(row: dict, index: int) -> Example:
  system, turns = messages.read(row.get('messages'), OPENAI, 'messages')
  picture = messages.picture(row.get('images'))
  answers = ()
  if turns and turns[-1][0] == 'assistant':
    turns, answers = turns[:-1], (turns[-1][1],)
  if (rejected := _rejected(row)) is not None:
    if not answers:
      raise RowError('half a pair', 'messages end without the preferred reply')
    answers += (rejected,)
  return Example(
    id=str(index),
    image=pairs.embedded(picture or None),
    turns=messages.unmarked(turns, bool(picture)),
    answers=answers,
    image_path=picture.get('path') or '',
    extra={'system': system} if system else {},
  )


def _rejected(row: dict) -> str | None:
  told = row.get('rejected_messages')
  if told is None:
    told = row.get('rejected_response')
  if told is None or isinstance(told, str):
    return told
  _, turns = messages.read(told, OPENAI, 'the rejected reply')
  if not turns or turns[-1][0] != 'assistant':
    raise RowError('malformed turn', 'the rejected side ends without a reply')
  return turns[-1][1]


def form(example: Example, index: int) -> dict:
  if len(example.answers) > 2:
    raise RowError('not a pair', f'{len(example.answers)} answers')
  preferred = [('assistant', text) for text in example.answers[:1]]
  told = messages.write((*messages.marked(example), *preferred), OPENAI)
  row = {'messages': messages.with_system(told, example, OPENAI)}
  if len(example.answers) == 2:
    row['rejected_response'] = example.answers[1]
  return row | {'images': messages.pictures(example)}


FORMAT = lossless.Format(
  'swift',
  ('messages', 'rejected_response', 'rejected_messages', 'images'),
  parse,
  form,
  {'images': pa.list_(columns.IMAGE)},
)
