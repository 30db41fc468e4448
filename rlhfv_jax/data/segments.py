"""Segments: which characters two answers differ in, and whose tokens they are.

Character spans are the one currency of a correction, whether an annotator drew
them or a word diff found them; a tokenizer's offsets turn them into roles.
"""

import re
from collections.abc import Sequence
from itertools import accumulate

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
  offsets = np.asarray(offsets, np.int32).reshape(-1, 2)
  spans = np.array([span[:2] for span in spans], np.int32).reshape(-1, 2)
  start = np.maximum(offsets[:, None, 0], spans[None, :, 0])
  end = np.minimum(offsets[:, None, 1], spans[None, :, 1])
  return np.add((start < end).any(axis=1), 1, dtype=np.int8)


def replaced(
  chosen: Sequence[Sequence], rejected: Sequence[Sequence]
) -> tuple[list[Sequence], list[Sequence]]:
  """Of spans that pair up one to one, those where one text took the place of
  another: neither insertions nor deletions."""
  pairs = [
    (new, old)
    for new, old in zip(chosen, rejected, strict=True)
    if new[0] < new[1] and old[0] < old[1]
  ]
  return [new for new, _ in pairs], [old for _, old in pairs]


def gaps(
  old: Sequence[str], new: Sequence[str]
) -> list[tuple[int, int, int, int]]:
  """What difflib finds no match for: words i to j of old, k to m of new.

  As SequenceMatcher without autojunk (which would stop "a" and "the" from
  matching in long answers), and several times as fast: a word is a letter here,
  and what Python is fast at is finding texts in texts.
  """
  words = dict.fromkeys((*old, *new))
  letter = {word: chr(i) for i, word in enumerate(words)}.__getitem__
  mine, theirs = ''.join(map(letter, old)), ''.join(map(letter, new))
  blocks, todo = [], [(0, len(mine), 0, len(theirs))]
  while todo:
    i, j, k, m = todo.pop()
    at, found, size = _longest(mine, theirs, i, j, k, m)
    if size:
      blocks.append((at, found, size))
      todo.append((i, at, k, found))
      todo.append((at + size, j, found + size, m))
  i = k = 0
  between = []
  for at, found, size in (*sorted(blocks), (len(mine), len(theirs), 0)):
    if i < at or k < found:
      between.append((i, at, k, found))
    i, k = at + size, found + size
  return between


def _longest(
  mine: str, theirs: str, i: int, j: int, k: int, m: int
) -> tuple[int, int, int]:
  """Where the longest common part begins in both, the first of equal ones."""
  at = found = size = 0
  while i + size < j:
    place = theirs.find(mine[i : i + size + 1], k, m)
    if place < 0:
      i += 1
      continue
    at, found, size = i, place, size + 1
    while (  # no other place has more of it before this one
      i + size < j and place + size < m
      and mine[i + size] == theirs[place + size]
    ):  # fmt: skip
      size += 1
  return at, found, size


def _hunks(old: list[str], new: list[str]) -> list[tuple[int, int, int, int]]:
  """Where the words differ; what only white space separates is one hunk."""
  hunks = []
  for hunk in gaps(old, new):
    if hunks and all(word.isspace() for word in old[hunks[-1][1] : hunk[0]]):
      hunk = (hunks[-1][0], hunk[1], hunks[-1][2], hunk[3])
      hunks.pop()
    hunks.append(hunk)
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
  return list(accumulate(map(len, words), initial=0))
