"""The overlap with what a model is measured on: pictures by name and by look.

COCO numbers its pictures once: 2014's COCO_val2014_000000000042.jpg is 2017's
000000000042.jpg and annotation files' 42, so a number is what is compared.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rlhfv_jax.data import images, sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.doctor.pictures import look

_KEYS = ('image', 'image_id', 'image_path', 'image_src', 'file_name', 'img')
_COCO = re.compile(r'(?<!\d)\d{12}(?!\d)')
_PICTURES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')
_SUSPECTS = {
  'COCO val2014, which CHAIR, Object HalBench and POPE take theirs from':
    r'COCO_val20\d\d_|\bval20\d\d/',
  'AMBER': r'\bAMBER_\d+',
  'MMHal-Bench': r'mmhal',
}  # fmt: skip


class HeldOut(NamedTuple):
  """Pictures to be measured on. Each name or content, with its file."""

  names: dict[str, str]
  digests: dict[str, str]
  fingerprints: dict[bytes, str]


def read(paths: Iterable[str | Path]) -> HeldOut:
  """Pictures of benchmark files, folders of pictures, and sources of examples.

  JSON and JSON lines tell by their image keys, wherever they stand; a parquet
  file or 'kind:path' by its examples; other files by the first word a line.
  """
  held = HeldOut({}, {}, {})
  for path in map(str, paths):
    file = Path(path).name
    known = len(held.names) + len(held.digests)
    for name, encoded in _pictures_of(path):
      if name:
        held.names.setdefault(name, file)
      if encoded is not None:
        held.digests.setdefault(images.digest(encoded), file)
        if (mark := look(encoded).fingerprint) is not None:
          held.fingerprints.setdefault(mark, file)
    if len(held.names) + len(held.digests) == known:
      raise ValueError(
        f'{path}: names no picture that was not named before: JSON with one of '
        f'the keys {", ".join(_KEYS)}, a name a line, or a folder of pictures'
      )
  return held


def names(example: Example) -> set[str]:
  """The names under which others may know a row's picture."""
  return {
    name
    for text in (example.image_path, example.id)
    if text and (name := _name(text))
  }


def suspect(example: Example) -> str | None:
  """The evaluation set that the names of a picture speak of."""
  for text in (example.image_path, example.id):
    for benchmark, pattern in _SUSPECTS.items():
      if re.search(pattern, text, re.IGNORECASE):
        return f'{text!r} is a name of {benchmark}'
  return None


def _name(text: str) -> str:
  """A COCO number without zeros, or what stands before the suffix."""
  text = text.strip().replace('\\', '/')
  last = PurePosixPath(text.partition('?')[0]).name
  if found := _COCO.findall(last):
    return str(int(found[-1]))
  stem = last if last.isdigit() else PurePosixPath(last).stem
  return '' if stem.isdigit() else stem.casefold()


Known = Iterator[tuple[str, bytes | None]]  # name, picture


def _pictures_of(spec: str) -> Known:
  path = Path(spec)
  if sources.split(spec)[1] != spec or path.suffix == '.parquet':
    return _examples(spec)
  if not path.exists():
    raise ValueError(f'{path}: no such file to hold the pictures against')
  return _folder(path) if path.is_dir() else _file(path)


def _examples(spec: str) -> Known:
  for example in sources.open(spec):
    yield '', example.image
    for name in names(example):
      yield name, None


def _folder(path: Path) -> Known:
  for file in sorted(path.rglob('*')):
    if file.suffix.lower() in _PICTURES:
      yield _name(file.name), file.read_bytes()


def _file(path: Path) -> Known:
  try:
    text = path.read_text('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8 text ({error})') from error
  if path.suffix in ('.json', '.jsonl'):
    for value in _values(_parsed(path, text)):
      yield from _known(value)
  else:
    for line in text.splitlines():
      if words := re.split(r'[\s,]', line.strip(), maxsplit=1)[0].strip('"'):
        yield from _known(int(words) if words.isdigit() else words)


def _parsed(path: Path, text: str) -> Any:
  """JSON, or a JSON value a line, which some benchmarks call .json too."""
  try:
    return json.loads(text)
  except json.JSONDecodeError:
    lines = text.splitlines()
  found = []
  for number, line in enumerate(lines, 1):
    try:
      found += [json.loads(line)] if line.strip() else []
    except json.JSONDecodeError as error:
      raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
  return found


def _values(tree: Any) -> Iterator[Any]:
  """What stands under an image key, at any depth."""
  if isinstance(tree, dict):
    for key, value in tree.items():
      if key in _KEYS and isinstance(value, str | int):
        yield value
      else:
        yield from _values(value)
  elif isinstance(tree, Sequence) and not isinstance(tree, str):
    for value in tree:
      yield from _values(value)


def _known(value: str | int) -> Known:
  if isinstance(value, int):
    yield str(value), None
  elif len(value) < 512:
    yield _name(value), None
  else:  # the picture itself, as base64
    try:
      yield '', base64.b64decode(value.rpartition(',')[2], validate=True)
    except binascii.Error:
      return
