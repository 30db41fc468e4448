"""Our own parquet: every field of an example, spans and all, as it is.

Columns `id`, `image` {bytes, path} (as Hugging Face's datasets has it), `turns`
[{role, text}], `answers` [text], `spans` [[{start, end, category}]] or null;
`origin`, `annotator`, `model`, `facts`, `extra` (JSON), which may be missing.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.storage import shards, tables
from rlhfv_jax.data.storage.lazy import Source

_SPAN = pa.struct(
  [('start', pa.int32()), ('end', pa.int32()), ('category', pa.string())]
)
_TURN = pa.struct([('role', pa.string()), ('text', pa.string())])
_IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
_NEEDED = [
  ('id', pa.string()),
  ('image', _IMAGE),
  ('turns', pa.list_(_TURN)),
  ('answers', pa.list_(pa.string())),
  ('spans', pa.list_(pa.list_(_SPAN))),
]
SCHEMA = pa.schema(
  [
    *_NEEDED,
    ('origin', pa.string()),
    ('annotator', pa.string()),
    ('model', pa.string()),
    ('facts', pa.list_(pa.string())),
    ('extra', pa.string()),
  ]
)


def read(*paths: str | Path) -> Source:
  """The examples of one or more files or folders, one after the other."""
  needed = [name for name, _ in _NEEDED]
  what = 'a file of examples as `sources.write` makes them'
  return Source(tables.read(paths, needed, what), from_row)


def write(
  path: str | Path, examples: Iterable[Example], *, shard_bytes: int = 2**30
) -> None:
  """A `.parquet` file or, without that suffix, a folder of shards."""
  shards.write(path, map(to_row, examples), SCHEMA, shard_bytes=shard_bytes)


def to_row(example: Example) -> dict:
  spans, path = example.spans, example.image_path or None
  return {
    'id': example.id,
    'image': {'bytes': example.image, 'path': path}
    if example.image or path
    else None,
    'turns': [{'role': role, 'text': text} for role, text in example.turns],
    'answers': list(example.answers),
    'spans': spans
    and [
      [{'start': s, 'end': e, 'category': kind} for s, e, kind in answer]
      for answer in spans
    ],
    'origin': example.origin,
    'annotator': example.annotator,
    'model': example.model,
    'facts': list(example.facts),
    'extra': json.dumps(example.extra) if example.extra else None,
  }


def from_row(row: dict, index: int) -> Example:
  image, spans = row['image'] or {}, row['spans']
  try:
    return Example(
      id=row['id'],
      image=image.get('bytes'),
      turns=tuple((turn['role'], turn['text']) for turn in row['turns']),
      answers=tuple(row['answers']),
      spans=spans
      and tuple(
        tuple((s['start'], s['end'], s['category']) for s in answer)
        for answer in spans
      ),
      image_path=image.get('path') or '',
      origin=row.get('origin') or '',
      annotator=row.get('annotator') or '',
      model=row.get('model') or '',
      facts=tuple(row.get('facts') or ()),
      extra=json.loads(row.get('extra') or '{}'),
    )
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise RowError('wrong type', repr(error)) from error
