"""Pictures that a model is measured on and that it was trained on too."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ALIKE = 6  # bits of 256 that differ, at most, in two copies of a picture
_SIDE = 16
_BLOCK = 1 << 12  # pictures held against all others at a time
_COCO = re.compile(r'(?<!\d)\d{12}(?!\d)')


class Print(NamedTuple):
  """What is kept of a picture: names, its file's digest, how it looks."""

  name: str
  key: str | None  # a name that means the same in every data set
  digest: bytes | None
  look: np.ndarray | None  # u8[32]; None where all of it looks the same


def leaks(
  asked: Iterable[Mapping[str, Any]],
  trained: Iterable[Mapping[str, Any]],
  *,
  alike: int = ALIKE,
) -> list[dict[str, str]]:
  """Questions whose picture was in training: id, the row's name, and how.

  Both give dicts with `id` and `image` (bytes) or `image_path`. `how` is
  "same file", "same COCO number", or "looks the same" where at most `alike` of
  256 bits of a coarse view differ. A question is listed once.
  """
  questions = list(prints(asked))
  rows = list(prints(trained))
  digests = {row.digest: row.name for row in reversed(rows) if row.digest}
  keys = {row.key: row.name for row in reversed(rows) if row.key}
  near = _nearest(questions, rows, alike)
  found = []
  for question in questions:
    for how, name in (
      ('same file', digests.get(question.digest)),
      ('same COCO number', keys.get(question.key)),
      ('looks the same', near.get(question.name)),
    ):
      if name is not None:
        found.append({'id': question.name, 'trained': name, 'how': how})
        break
  return found


def prints(pictures: Iterable[Mapping[str, Any]]) -> Iterator[Print]:
  """The prints of pictures; one that cannot be read is known by name only."""
  for picture in pictures:
    path = picture.get('image_path') or ''
    encoded = picture.get('image')
    if encoded is None and path and Path(path).is_file():
      encoded = Path(path).read_bytes()
    name = str(picture['id'])
    digest = None if encoded is None else hashlib.sha256(encoded).digest()
    view = None if encoded is None else look(encoded)
    yield Print(name, _key(path) or _key(name), digest, view)


def _key(name: str) -> str | None:
  """COCO's number: 2014's and 2017's files share it."""
  numbers = _COCO.findall(PurePosixPath(name.replace('\\', '/')).name)
  return numbers[-1] if numbers else None


def look(encoded: bytes) -> np.ndarray | None:
  """256 bits: where a coarse grey view of the picture gets lighter."""
  try:
    with Image.open(io.BytesIO(encoded)) as picture:
      grey = picture.convert('L').resize(
        (_SIDE + 1, _SIDE), Image.Resampling.BOX
      )
  except (OSError, ValueError):
    return None
  pixels = np.asarray(grey, np.int16)
  if pixels.std() < 2:
    return None
  return np.packbits(pixels[:, 1:] > pixels[:, :-1])


def _nearest(
  questions: Sequence[Print], rows: Sequence[Print], alike: int
) -> dict[str, str]:
  """Question -> the row that looks most like it, if it does."""
  questions = [q for q in questions if q.look is not None]
  rows = [row for row in rows if row.look is not None]
  if not questions or not rows:
    return {}
  ours = np.stack([q.look for q in questions]).view(np.uint64)
  best = np.full(len(questions), 257)
  which = np.zeros(len(questions), int)
  for start in range(0, len(rows), _BLOCK):
    theirs = np.stack([r.look for r in rows[start : start + _BLOCK]])
    theirs = theirs.view(np.uint64)
    for i, mine in enumerate(ours):
      bits = np.bitwise_count(theirs ^ mine).sum(axis=1)
      j = int(bits.argmin())
      if bits[j] < best[i]:
        best[i], which[i] = bits[j], start + j
  return {
    question.name: rows[which[i]].name
    for i, question in enumerate(questions)
    if best[i] <= alike
  }
