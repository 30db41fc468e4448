"""Sent: what a page may send, checked before anything believes it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlhfv_jax.annotate.marks import Marks

TEXT = 50_000  # characters of an answer
_SAVE = re.compile(r'[\w-]{8,64}', re.ASCII)


class Sent(NamedTuple):
  """An edit as it stands on somebody's screen."""

  item: int
  text: str
  marks: Marks
  version: int
  save: str
  seconds: float
  keys: int
  note: str

  @classmethod
  def of(cls, told: Mapping[str, Any]) -> Sent:
    return cls(
      number(told, 'item', 1, 2**53),
      text(told, 'text', TEXT),
      Marks.of(told.get('marks', {})),
      number(told, 'version', 0, 2**53),
      save(told),
      number(told, 'seconds', 0, 1e7, kind=(int, float)),
      number(told, 'keys', 0, 10**7),
      text(told, 'note', 2000, ''),
    )

  def body(self) -> dict[str, Any]:
    return {
      'text': self.text,
      'marks': self.marks._asdict(),
      'seconds': self.seconds,
      'keys': self.keys,
      'note': self.note,
    }


def parse(body: bytes) -> dict[str, Any]:
  try:
    told = json.loads(body, parse_constant=_no_number)
  except (ValueError, RecursionError) as error:
    raise ValueError('what was sent is not JSON') from error
  if not isinstance(told, dict):
    raise ValueError('what was sent is not a JSON object')
  return told


def text(
  told: Mapping[str, Any], name: str, most: int, default: str | None = None
) -> str:
  found = told.get(name, default)
  if not isinstance(found, str) or len(found) > most:
    raise ValueError(f'{name}: text of at most {most:,} characters')
  if any('\ud800' <= letter <= '\udfff' for letter in found):
    raise ValueError(f'{name}: it holds half a character')
  return re.sub('\r\n?', '\n', found)


def number(
  told: Mapping[str, Any],
  name: str,
  least: float,
  most: float,
  *,
  kind: Any = int,
) -> Any:
  found = told.get(name, 0 if least == 0 else None)
  plain = isinstance(found, kind) and not isinstance(found, bool)
  if not plain or not least <= found <= most:
    raise ValueError(f'{name}: a number from {least} to {most:g}')
  return found


def save(told: Mapping[str, Any]) -> str:
  found = told.get('save')
  if not isinstance(found, str) or not _SAVE.fullmatch(found):
    raise ValueError('save: 8 to 64 letters or digits that name the attempt')
  return found


def person(name: Any) -> str:
  """A name that a page can show and a file can hold."""
  if not isinstance(name, str):
    raise ValueError('name: text')
  name = ' '.join(name.split())
  if not 0 < len(name) <= 40 or any(
    unicodedata.category(letter)[0] == 'C' for letter in name
  ):
    raise ValueError('name: 1 to 40 letters that can be seen')
  return name


def _no_number(name: str) -> None:
  raise ValueError(f'{name} is no number')
