"""Columns: Arrow types of rows, and what Hugging Face's datasets makes of them.

A value that Arrow has no one type for is written as JSON text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from rlhfv_jax.data.lossless import Row, bare, jsonable

IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
SPANS = pa.list_(
  pa.struct(
    [('start', pa.int32()), ('end', pa.int32()), ('category', pa.string())]
  )
)
FIXED = {
  'chosen_spans': SPANS,
  'rejected_spans': SPANS,
  'facts': pa.list_(pa.string()),
}
_CHUNK = 1000
_MISFIT = (pa.ArrowException, TypeError, UnicodeEncodeError, OverflowError)


def schema(rows: Iterable[Row], types: Mapping[str, pa.DataType]) -> pa.Schema:
  """Of all rows, whose pictures are not looked at. `types` where they fit."""
  found: dict[str, pa.DataType] = {}
  for values in _chunks(rows, types):
    for name, column in values.items():
      type = _type(column, {**FIXED, **types}.get(name))
      found[name] = _joined(found.get(name), type) if type else pa.string()
      if name in types and _is_mixed(column, found[name]):
        raise ValueError(
          f'column {name}: some rows say it one way and some another, as plain '
          'text and as messages: convert each kind by itself'
        )
  made = pa.schema(list(found.items()))
  return made.with_metadata({'huggingface': json.dumps(features(made))})


def typed(row: Row, schema: pa.Schema) -> Row:
  """The row, with JSON text where the schema has text and the row has not."""
  return {
    field.name: json.dumps(jsonable(value))
    if pa.types.is_string(field.type) and not isinstance(value, str | None)
    else value
    for field in schema
    for value in (row.get(field.name),)
  }


def features(schema: pa.Schema) -> dict:
  """As `datasets` stores them; lists in the way that all its versions read."""
  return {
    'info': {'features': {field.name: _feature(field.type) for field in schema}}
  }


def _chunks(
  rows: Iterable[Row], types: Mapping[str, pa.DataType]
) -> Iterator[dict[str, list]]:
  values, count = {}, 0
  for row in rows:
    for name, value in row.items():
      value = bare(value) if name in types else value
      values.setdefault(name, []).append(value)
    count += 1
    if count == _CHUNK:
      yield values
      values, count = {}, 0
  yield values


def _is_mixed(column: list, type: pa.DataType) -> bool:
  plain = all(isinstance(value, str | None) for value in column)
  return pa.types.is_string(type) and not plain


def _type(column: list, wanted: pa.DataType | None) -> pa.DataType | None:
  """The first type in which the values come back as they were."""
  for type in (wanted, None):
    try:
      array = pa.array(column, type)
    except _MISFIT:
      continue
    told = array.to_pylist()
    if type is not None:
      told, column = bare(told), bare(column)
    if told == column and _storable(array.type):
      return array.type
  return None


def _storable(type: pa.DataType) -> bool:
  """Parquet has no struct without fields."""
  if pa.types.is_struct(type):
    return type.num_fields > 0 and all(_storable(f.type) for f in type)
  return not pa.types.is_list(type) or _storable(type.value_type)


def _joined(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
  if one is None or one == other:
    return other
  schemas = [pa.schema([('', type)]) for type in (one, other)]
  try:
    return pa.unify_schemas(schemas, promote_options='permissive')[0].type
  except pa.ArrowException:
    return pa.string()


def _feature(type: pa.DataType) -> Any:
  if type == IMAGE:
    return {'_type': 'Image'}
  if pa.types.is_struct(type):
    return {field.name: _feature(field.type) for field in type}
  if pa.types.is_list(type):
    return [_feature(type.value_type)]
  names = {'double': 'float64', 'float': 'float32'}
  return {'dtype': names.get(str(type), str(type)), '_type': 'Value'}
