"""The frame of a page: one look for all, everything inline, texts escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

_LOOK = Path(__file__).with_name('page.css')


def fill(frame: Path, **parts: str) -> str:
  """The page of a frame, in the house's look: `$look` and the named parts."""
  look = _LOOK.read_text('utf-8')
  return Template(frame.read_text('utf-8')).substitute(look=look, **parts)


def missing(sentence: str) -> str:
  """What stands where there is nothing to show."""
  return f'<p class="missing">{escape(sentence)}</p>'


def stressed(sentence: str) -> str:
  """A sentence whose numbers stand out."""
  number = r'(?<![\w#])(\d[\d.,]*(?<=\d)(?: %)?)'
  return re.sub(number, r'<b>\1</b>', escape(sentence))


def facts(told: Mapping[str, Any]) -> str:
  """A list of what is so, nested names joined."""
  lines = (
    f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>'
    for name, value in _flat(told)
  )
  return f'<dl class="facts">{"".join(lines)}</dl>'


def _flat(tree: Mapping[str, Any], prefix: str = '') -> Iterable[tuple]:
  for name, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{name} ')
    else:
      yield prefix + name, value
