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
      number = math.prod(shape)
      flat = np.fromfile(file, np.uint8, number * dtype.itemsize, offset=start)
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
  begin = 8 + length
  end = max((t['data_offsets'][1] for t in table.values()), default=0)
  if size < begin + end:
    raise ValueError(_short(file, size, begin + end))
  entries = {}
  for name, t in sorted(table.items(), key=lambda kv: kv[1]['data_offsets']):
    if t['dtype'] not in DTYPES:
      raise ValueError(
        f'{file}: {name} is {t["dtype"]}, and {", ".join(DTYPES)} are read: '
        'take the checkpoint that is not quantised'
      )
    start = begin + t['data_offsets'][0]
    entries[name] = tuple(t['shape']), DTYPES[t['dtype']], start
  return entries


def _short(file, size, promised):
  return (
    f'{file} ends after {size:,} of {promised:,} bytes: the download is not '
    'complete, fetch it again'
  )
