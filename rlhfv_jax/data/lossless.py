"""Lossless: rows of other formats become examples, and come back as they were.

A format says how most people write a row (`form`) and reads what anybody does
(`parse`). What it has no place for stands in columns of a common name, and in
`extra` what nobody here understands. Where a row is not written as most people
do, its own way of saying it is kept, for as long as the example says the same.
"""

import base64
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from rlhfv_jax.data.example import Example, RowError, typed

Row = dict[str, Any]
COMMON = {
  'id': 'id',
  'image_path': 'image_path',
  'origin_dataset': 'origin',
  'source_model': 'model',
  'annotator': 'annotator',
}
SPANS = ('chosen_spans', 'rejected_spans')
OWN = '_row.'  # before keys of `extra` that say how a row was written
_AGAIN = 'extra.'  # before a column whose name the format itself uses


@dataclass(frozen=True)
class Format:
  """Functions that a worker process can be sent.

  `types` are of the columns that a reader relies on, where they hold that.
  """

  kind: str
  columns: tuple[str, ...]  # that `parse` reads
  parse: Callable[[Row, int], Example]
  form: Callable[[Example, int], Row]
  types: Mapping[str, pa.DataType] = field(default_factory=dict)


def to_example(row: Row, index: int, *, format: Format) -> Example:
  example = typed(_read(row, index, format))
  usual = _write(example, index, format)
  odd = {
    name: _told(name, value, format)
    for name, value in row.items()
    if _told(name, value, format) != _told(name, usual.get(name), format)
  }
  own = OWN + format.kind
  kept = {own: odd, f'{own}.lacks': sorted(usual.keys() - row.keys())}
  kept = {key: value for key, value in kept.items() if value}
  return replace(example, extra={**example.extra, **kept}) if kept else example


def to_row(example: Example, index: int, *, format: Format) -> Row:
  row, own = _write(example, index, format), OWN + format.kind
  odd = example.extra.get(own, {})
  lacks = example.extra.get(f'{own}.lacks', ())
  if not odd and not lacks:
    return row

  def says_the_same(trial: Row) -> bool:
    with contextlib.suppress(RowError, KeyError):
      return _content(_read(trial, index, format)) == _content(example)
    return False

  filled = {name: _filled(value, row.get(name)) for name, value in odd.items()}
  whole = {name: row[name] for name in row if name not in lacks} | filled
  if says_the_same(whole):
    return whole
  for name, value in filled.items():
    if says_the_same({**row, name: value}):
      row[name] = value
  return row


def _told(name: str, value: Any, format: Format) -> Any:
  """What JSON can hold; but for pictures, which an example has a place for."""
  return bare(value) if name in format.columns else jsonable(value)


def bare(value: Any) -> Any:
  """A value without bytes and without keys that hold nothing."""
  if isinstance(value, bytes):
    return None
  if isinstance(value, dict):
    found = {key: bare(inner) for key, inner in value.items()}
    return {key: inner for key, inner in found.items() if inner is not None}
  return [bare(inner) for inner in value] if isinstance(value, list) else value


def _filled(odd: Any, usual: Any) -> Any:
  """What `bare` took out is put back."""
  if isinstance(odd, dict) and isinstance(usual, dict):
    held = {k: v for k, v in usual.items() if isinstance(v, bytes)}
    return {**odd, **held}
  lists = isinstance(odd, list) and isinstance(usual, list)
  if lists and len(odd) == len(usual):
    return [_filled(a, b) for a, b in zip(odd, usual, strict=True)]
  return odd


def _content(example: Example) -> Example:
  extra = {k: v for k, v in example.extra.items() if not k.startswith(OWN)}
  return replace(example, extra=extra)


def _read(row: Row, index: int, format: Format) -> Example:
  example = format.parse(row, index)
  found, rest = {}, {}
  for name, value in row.items():
    common = name in COMMON or name in SPANS or name == 'facts'
    if name in format.columns or (common and value is None):
      continue
    if name in COMMON and isinstance(value, str) and value:
      found[COMMON[name]] = value
    elif name == 'id' and type(value) is int:
      found['id'] = str(value)
    elif name == 'facts' and value and _texts(value):
      found['facts'] = tuple(value)
    elif name in SPANS and isinstance(value, list):
      found['spans'] = _spans(row, len(example.answers))
    else:
      tail = name.removeprefix(_AGAIN)
      rest[tail if tail in format.columns else name] = jsonable(value)
  return replace(example, **found, extra={**rest, **example.extra})


def _write(example: Example, index: int, format: Format) -> Row:
  row = format.form(example, index)
  said = format.parse(row, index)  # what such a row can say
  for name, attribute in COMMON.items():
    value = getattr(example, attribute)
    if value != getattr(said, attribute):
      row[name] = value
  if example.facts:
    row['facts'] = list(example.facts)
  if example.spans is not None:
    for name, spans in zip(SPANS, example.spans, strict=False):
      row[name] = [
        {'start': start, 'end': end, 'category': category}
        for start, end, category in spans
      ]
  for name, value in example.extra.items():
    if name.startswith(OWN) or name in said.extra:
      continue
    if name in format.columns:
      name = _AGAIN + name
    row.setdefault(name, from_jsonable(value))
  return row


def _spans(row: Row, answers: int) -> tuple:
  try:
    return tuple(
      tuple(
        (span['start'], span['end'], span.get('category'))
        for span in row.get(name) or ()
      )
      for name in SPANS[:answers]
    )
  except (AttributeError, KeyError, TypeError) as error:
    raise RowError(
      'wrong type', 'spans are lists of {start, end, category}'
    ) from error


def _texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(v, str) for v in value)


def jsonable(value: Any) -> Any:
  """Bytes have no JSON; what else a column may hold (dates) becomes text."""
  if isinstance(value, bytes):
    return {'base64': base64.b64encode(value).decode()}
  if isinstance(value, dict):
    return {str(key): jsonable(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return [jsonable(inner) for inner in value]
  plain = value is None or isinstance(value, str | int | float)
  return value if plain else str(value)


def from_jsonable(value: Any) -> Any:
  if isinstance(value, dict):
    with contextlib.suppress(TypeError, ValueError):
      if value.keys() == {'base64'}:
        return base64.b64decode(value['base64'], validate=True)
    return {key: from_jsonable(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return [from_jsonable(inner) for inner in value]
  return value
