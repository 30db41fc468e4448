"""Segments: which characters two answers differ in, and whose tokens they are.

Character spans are the one currency of a correction, whether an annotator drew
them or a word diff found them; a tokenizer's offsets turn them into roles.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np

Span = tuple[int, int]

_WORD = re.compile(r'\w+|\s+|[^\w\s]')


def spans(chosen: str, rejected: str) -> tuple[list[Span], list[Span]]:
  """The character spans (start, end) in which two answers differ, by words.

  Spans pair up one to one: writing each chosen span over its rejected partner
  turns `rejected` into `chosen`. Where one side has nothing to set against the
  other its span is empty, (i, i), and no token meets it.
  """
  old, new = _WORD.findall(rejected), _WORD.findall(chosen)
  hunks = [_space_first(hunk, old, new) for hunk in _hunks(old, new)]
  old_at, new_at = _starts(old), _starts(new)
  return (
    [(new_at[start], new_at[end]) for _, _, start, end in hunks],
    [(old_at[start], old_at[end]) for start, end, _, _ in hunks],
  )


def roles_from_spans(
  spans: Sequence[Sequence], offsets: Sequence[Span]
) -> np.ndarray:
  """i8[n]: 2 where a token's characters meet a span, else 1.

  A span may carry more than its two ends (a category). A token without
  characters, as special tokens at (0, 0) are, meets none.
  """
  offsets = np.asarray(offsets, np.int64).reshape(-1, 2)
  spans = np.asarray([span[:2] for span in spans], np.int64).reshape(-1, 2)
  start = np.maximum(offsets[:, None, 0], spans[None, :, 0])
  end = np.minimum(offsets[:, None, 1], spans[None, :, 1])
  return np.where((start < end).any(axis=1), 2, 1).astype(np.int8)


def _hunks(old: list[str], new: list[str]) -> list[tuple[int, int, int, int]]:
  """Where the words differ; what only white space separates is one hunk."""
  # autojunk would stop "a" and "the" from matching in long answers.
  matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
  hunks = []
  for kind, *hunk in matcher.get_opcodes():
    if kind == 'equal':
      continue
    if hunks and all(word.isspace() for word in old[hunks[-1][1] : hunk[0]]):
      hunk = [hunks[-1][0], hunk[1], hunks[-1][2], hunk[3]]
      hunks.pop()
    hunks.append(tuple(hunk))
  return hunks


def _space_first(hunk, old: list[str], new: list[str]):
  """Of `a [red ]cup` and `a[ red] cup`, which say the same, the second.

  Tokenizers give a space to the word that follows it, so the first would touch
  a token that did not change.
  """
  i, j, k, m = hunk
  before, last = old[i - 1 : i], (old[i:j] or new[k:m])[-1:]
  one_sided = i == j or k == m
  if one_sided and before == last and last[0].isspace():
    return i - 1, j - 1, k - 1, m - 1
  return hunk


def _starts(words: list[str]) -> list[int]:
  """Where each word starts, and where the last one ends."""
  return [0, *np.cumsum([len(word) for word in words]).tolist()]
