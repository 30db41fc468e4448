"""Plain JSONL: an object a line, and a folder of the pictures it names.

{"image": "a.jpg", "question": "...", "chosen": "...", "rejected": "..."}, or
"answer" alone, or "turns": [["user", "..."], ...] and "answers": [...]; with
"id", "spans", "origin", "annotator", "model", "facts" where there are some. All
other keys are kept in `extra`. Here, in a bucket (gs://), or on the hub.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from etils import epath

from rlhfv_jax.data import messages
from rlhfv_jax.data.example import Example, RowError, from_dict, to_dict
from rlhfv_jax.data.formats import llava
from rlhfv_jax.data.storage import beside, places, records
from rlhfv_jax.data.storage.lazy import Source

ROWS = 'rows.jsonl'
FIELDS = (
  'id', 'image', 'turns', 'answers', 'spans', 'image_path', 'origin',
  'annotator', 'model', 'facts', 'extra',
)  # fmt: skip
SHORT = ('question', 'answer', 'chosen', 'rejected')


def read(path: str | Path, *, images: str | Path | None = None) -> Source:
  """A .jsonl file, or a folder with one; its pictures are in `images`, which
  is looked for beside it."""
  file = _file(places.here(path))
  table = records.read(places.file(file))
  images = images or llava.find_images(table, file.parent)
  return Source(beside.Beside(table, 'image', images), to_example)


def to_example(record: dict, index: int) -> Example:
  picture = messages.picture(record.get('image'))
  row = {k: v for k, v in record.items() if k in FIELDS}
  row |= {
    'id': record.get('id', index),
    'image': picture.get('bytes'),
    'image_path': record.get('image_path', picture.get('path') or ''),
    'turns': record.get('turns') or [['user', _question(record)]],
    'answers': _answers(record),
  }
  others = {k: v for k, v in record.items() if k not in (*FIELDS, *SHORT)}
  row['extra'] = others | record.get('extra', {})
  try:
    return from_dict(row)
  except ValueError as error:
    raise RowError('wrong type', f'turns or spans: {error}') from error


def _question(record: dict) -> str:
  if 'question' not in record:
    raise RowError('no question', f'{sorted(record)}: or turns')
  return record['question']


def _answers(record: dict) -> list[str]:
  if 'answers' in record:
    return record['answers']
  if 'answer' in record:
    return [record['answer']]
  pair = [record[key] for key in ('chosen', 'rejected') if key in record]
  if len(pair) == 1:
    raise RowError('half a pair', 'chosen or rejected is missing')
  return pair


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A .jsonl file, or one in a folder, and the pictures beside it."""
  path = Path(path)
  file = path if path.suffix in beside.RECORDS else path / ROWS
  beside.write(file, map(to_record, examples), column='image')


def to_record(example: Example) -> dict[str, Any]:
  row, kept = to_dict(example), ('id', 'turns', 'answers')
  if example.image is not None:
    row['image'] = messages.pictures(example)[0]
    kept = (*kept, 'image_path')  # where another picture has its name
  return {k: v for k, v in row.items() if v or k in kept}


def _file(path: str) -> epath.Path:
  found = epath.Path(path)
  try:
    if found.is_dir():
      inside = sorted(found.glob('*.jsonl'))
      if len(inside) != 1:
        raise ValueError(
          f'{path}: one .jsonl file is read, here are '
          f'{", ".join(p.name for p in inside) or "none"}'
        )
      return inside[0]
  except (ImportError, OSError) as error:
    raise ValueError(f'{path}: cannot be read ({error})') from error
  return found
