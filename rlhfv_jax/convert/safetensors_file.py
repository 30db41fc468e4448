"""A safetensors file: eight bytes of length, a JSON header, then the tensors.

Read here rather than through its library so that a tensor comes straight from
the file into its own memory, and a file that ends early says by how much.
"""

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype(np.int64),
  'I32': np.dtype(np.int32),
  'I16': np.dtype(np.int16),
  'I8': np.dtype(np.int8),
  'U8': np.dtype(np.uint8),
  'BOOL': np.dtype(bool),
}


def header(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  """Shape and dtype of every tensor, in the order of the file."""
  return {k: (shape, dtype) for k, (shape, dtype, _) in _entries(file).items()}


def read(
  file: Path, names: Collection[str]
) -> Iterator[tuple[str, np.ndarray]]:
  for name, (shape, dtype, start) in _entries(file).items():
    if name in names:
      flat = np.fromfile(file, np.uint8, _bytes(shape, dtype), offset=start)
      yield name, flat.view(dtype).reshape(shape)


def _entries(file):
  size = file.stat().st_size
  with open(file, 'rb') as f:
    length = int.from_bytes(f.read(8), 'little')
    if size < 8 + length:
      raise ValueError(_short(file, size, 8 + length))
    try:
      table = json.loads(f.read(length))
    except ValueError as error:
      raise ValueError(
        f'{file}: its header is not JSON ({error}): fetch it again'
      ) from error
  table.pop('__metadata__', None)
  entries = {k: _entry(file, k, told, 8 + length) for k, told in table.items()}
  end = max((at + _bytes(*kind) for *kind, at in entries.values()), default=0)
  if size < end:
    raise ValueError(_short(file, size, end))
  return dict(sorted(entries.items(), key=lambda entry: entry[1][2]))


def _entry(file, name, told, begin):
  """(shape, dtype, where it begins) of a tensor."""
  try:
    shape, dtype = tuple(told['shape']), told['dtype']
    start, end = told['data_offsets']
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f'{file}: its header does not say what {name} is and where: fetch the '
      'file again'
    ) from error
  if dtype not in DTYPES:
    raise ValueError(
      f'{file}: {name} is {dtype}, and {", ".join(DTYPES)} are read: take the '
      'checkpoint that is not quantised'
    )
  have, want = end - start, _bytes(shape, DTYPES[dtype])
  if have != want:
    raise ValueError(
      f'{file}: {name} is {shape} of {dtype}, which are {want:,} bytes, and '
      f'has {have:,}: fetch the file again'
    )
  return shape, DTYPES[dtype], begin + start


def _bytes(shape, dtype):
  return math.prod(shape) * dtype.itemsize


def _short(file, size, promised):
  return (
    f'{file} ends after {size:,} of {promised:,} bytes: the download is not '
    'complete, fetch it again'
  )
