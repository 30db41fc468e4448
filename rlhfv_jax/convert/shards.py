"""Weight files as they lie in a folder: found, held against their names, and
read one tensor at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from rlhfv_jax.convert import safetensors_file, torch_file

_KINDS = {
  'safetensors': ('.safetensors',),
  'torch': ('.bin', '.pth', '.pt'),
}
# What trainers leave beside weights.
_NO_WEIGHTS = r'(training_args|optimizer|scheduler|scaler|rng_state).*'
_NUMBERED = re.compile(r'(.+)-(\d+)-of-(\d+)(\.\w+)')


class Tensor(NamedTuple):
  """Where a tensor is, and what; nothing of it is read yet."""

  file: Path
  shape: tuple[int, ...]
  dtype: np.dtype


def scan(path: str | Path) -> dict[str, Tensor]:
  """Every tensor of a folder (or of one file) by its name."""
  found: dict[str, Tensor] = {}
  for file in weight_files(Path(path)):
    for name, (shape, dtype) in _reader(file).header(file).items():
      if name in found:
        raise ValueError(
          f'{name} is in {found[name].file} and in {file.name}: name the one '
          'file that counts instead of the folder'
        )
      found[name] = Tensor(file, shape, dtype)
  _check_index(Path(path), found)
  return found


def read(
  tensors: Mapping[str, Tensor], names: Collection[str]
) -> Iterator[tuple[str, np.ndarray]]:
  """The named tensors file by file, in the order in which they are stored."""
  wanted: dict[Path, list[str]] = {}
  for name, tensor in tensors.items():
    if name in names:
      wanted.setdefault(tensor.file, []).append(name)
  for file, inside in wanted.items():
    yield from _reader(file).read(file, inside)


def told(path: Path, *keys: str) -> dict[str, Any]:
  """What a JSON file beside weights says; these keys have to be in it."""
  try:
    found = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error}): fetch it again') from error
  if not isinstance(found, dict) or not found.keys() >= {*keys}:
    raise ValueError(
      f'{path} is no table with {" and ".join(keys) or "keys"}: fetch it again'
    )
  return found


def weight_files(path: Path) -> list[Path]:
  """The files that hold the weights of a folder; safetensors before torch's."""
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise ValueError(f'{path}: no such folder')
  for suffixes in _KINDS.values():
    for suffix in suffixes:
      if inside := _with_suffix(path, suffix):
        _check_numbers(path, inside)
        return inside
  raise ValueError(_nothing(path))


def _with_suffix(folder: Path, suffix: str) -> list[Path]:
  indexes = sorted(folder.glob(f'*{suffix}.index.json'))
  if indexes:
    named = sorted(set(_map(indexes[0]).values()))
    for name in named:
      if not (folder / name).exists():
        raise ValueError(
          f'{folder / name} is not there, and {indexes[0].name} names it: the '
          'download is not complete, fetch it again'
        )
    return [folder / name for name in named]
  every = sorted(p for p in folder.iterdir() if p.suffix == suffix)
  return [p for p in every if not re.fullmatch(_NO_WEIGHTS, p.name)]


def _check_numbers(folder: Path, inside: list[Path]) -> None:
  """Without an index the names alone say how many shards there should be."""
  numbered = [m for p in inside if (m := _NUMBERED.fullmatch(p.name))]
  for stem, _, total, _ in (m.groups() for m in numbered):
    have = sorted(int(m[2]) for m in numbered if m[1] == stem)
    if have[-1] > int(total) or len(have) != int(total):
      raise ValueError(
        f'{folder}: {len(have)} of {int(total)} shards of {stem} are there '
        f'({", ".join(map(str, have))}): fetch the others'
      )


def _check_index(folder: Path, found: Mapping[str, Tensor]) -> None:
  for index in sorted(folder.glob('*.index.json')):
    for name, file in _map(index).items():
      here = any(t.file.name == file for t in found.values())
      if here and (name not in found or found[name].file.name != file):
        raise ValueError(
          f'{index} looks for {name} in {file}, which has no such tensor: the '
          'two belong to different downloads, fetch them again'
        )


def _map(index: Path) -> dict[str, str]:
  return told(index, 'weight_map')['weight_map']


def _nothing(folder: Path) -> str:
  """Why a folder is no checkpoint, and where one may be."""
  names = sorted(p.name for p in folder.iterdir())
  below = sorted(
    p.name
    for p in folder.iterdir()
    if p.is_dir()
    and any(_with_suffix(p, s) for k in _KINDS.values() for s in k)
  )
  if 'params' in names and 'model.json' in names:
    way = 'it is a workdir that was imported already: use it as it is'
  elif below:
    way = f'there are some in {", ".join(below)}: name one of these'
  else:
    inside = ', '.join(names[:5]) or 'nothing'
    way = f'in it: {inside}. Name the folder of the weights, or fetch them'
  suffixes = ', '.join(f'*{s}' for k in _KINDS.values() for s in k)
  return f'{folder} has no weights ({suffixes}); {way}'


def _reader(file: Path) -> ModuleType:
  """Who reads a file: its name says so, and what is in it has to agree."""
  for kind, suffixes in _KINDS.items():
    if file.suffix in suffixes:
      inside = _content(file)
      if inside != kind:
        raise ValueError(
          f'{file} is {_WHAT[inside]} and has the name of {_WHAT[kind]}: '
          f'{_WAY[inside]}'
        )
      return {'safetensors': safetensors_file, 'torch': torch_file}[kind]
  raise ValueError(
    f'{file}: weights are read from .safetensors, .bin, .pth and .pt, '
    f'not from {file.suffix or "a file without a suffix"}'
  )


_WHAT = {
  'safetensors': 'a safetensors file',
  'torch': 'a file of torch',
  'pointer': 'a pointer of Git LFS',
  'text': 'text',
  'empty': 'an empty file',
  'other': 'no file of weights',
}
_WAY = {
  'safetensors': 'rename it to .safetensors',
  'torch': 'rename it to .bin',
  'pointer': 'fetch what it points at with `git lfs pull`',
  'text': 'the server may have sent an error page, fetch it again',
  'empty': 'fetch it again',
  'other': 'fetch it again',
}


def _content(file: Path) -> str:
  with open(file, 'rb') as f:
    head = f.read(64)
  if not head:
    return 'empty'
  if head.startswith(b'version https://git-lfs'):
    return 'pointer'
  # First: the length that it begins with may look like anything else.
  if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**32:
    return 'safetensors'
  if head.startswith((b'PK\x03\x04', b'\x80')):
    return 'torch'
  return 'text' if head.isascii() else 'other'
