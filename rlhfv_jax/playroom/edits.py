"""Edits of a text, and where they stand before and after."""

from __future__ import annotations

import re
from dataclasses import dataclass

Span = tuple[int, int, str]  # start, end, category
_WORD = re.compile(r'\s*(?:\w+|[^\w\s])')


@dataclass(frozen=True)
class Edit:
  """Characters start to end of a text become `new`."""

  start: int
  end: int
  new: str
  category: str


@dataclass(frozen=True)
class Correction:
  """A corrected text; span i of it took the place of rejected span i."""

  text: str
  rejected_spans: tuple[Span, ...]
  chosen_spans: tuple[Span, ...]


def apply(text: str, edits: list[Edit]) -> Correction:
  """The text with all edits made; they must not overlap."""
  out, cursor, rejected, chosen = '', 0, [], []
  for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
    if edit.start < cursor:
      raise ValueError(f'{edit} starts before {cursor}, where another ends')
    out += text[cursor : edit.start]
    rejected.append((edit.start, edit.end, edit.category))
    chosen.append((len(out), len(out) + len(edit.new), edit.category))
    out += edit.new
    cursor = edit.end
  return Correction(out + text[cursor:], tuple(rejected), tuple(chosen))


def trim(text: str, edit: Edit) -> Edit:
  """The edit without the words that both its sides begin or end with."""
  old = _WORD.findall(text[edit.start : edit.end])
  new = _WORD.findall(edit.new)
  most = min(len(old), len(new)) - 1
  head = _common(old, new, most)
  tail = _common(old[::-1], new[::-1], most - head)
  start = edit.start + len(''.join(old[:head]))
  end = edit.end - len(''.join(old[len(old) - tail :]))
  words = ''.join(new[head : len(new) - tail])
  if text[start].isspace() and text[start] == words[0]:
    start, words = start + 1, words[1:]
  return Edit(start, end, words, edit.category)


def _common(a: list[str], b: list[str], most: int) -> int:
  count = 0
  while count < most and a[count] == b[count]:
    count += 1
  return count


def delete(
  text: str, start: int, end: int, *, category: str, earlier: list[Edit]
) -> Edit:
  """Takes a sentence out, with the space that parts it from the rest."""
  before = text[:start]
  # After the edits so far nothing may be left before it to be parted from.
  if apply(before, earlier).text.strip():
    start = len(before.rstrip())
  else:
    end = len(text) - len(text[end:].lstrip())
  return Edit(start, end, '', category)
