"""A file of torch: a pickle, which may hold code; none of it is ever run."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

# Under these keys some files keep their weights, beside what made them.
_INSIDE = ('model', 'module', 'state_dict')


def header(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  """Shape and dtype of every tensor, in the order of the file."""
  return {
    name: (tuple(t.shape), _numpy_dtype(file, name, t))
    for name, t in _load(file).items()
  }


def read(
  file: Path, names: Collection[str]
) -> Iterator[tuple[str, np.ndarray]]:
  import torch

  for name, t in _load(file).items():
    if name in names:
      bits = t.view(torch.int16) if t.dtype == torch.bfloat16 else t
      # A copy: the file is only mapped, and may change later.
      yield name, bits.numpy().copy().view(_numpy_dtype(file, name, t))


def write(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
  torch = _torch(f'{file} is written by torch')
  torch.save({k: torch.tensor(x) for k, x in tensors.items()}, file)


def _torch(who: str, otherwise: str = '') -> ModuleType:
  try:
    import torch
  except ImportError as error:
    raise ValueError(
      f"{who}, which is not installed: pip install 'rlhfv_jax[convert]'"
      f'{otherwise}'
    ) from error
  return torch


def _load(file: Path) -> dict[str, Any]:
  torch = _torch(f'{file} is read by torch', ', or take the safetensors files')
  zipped = zipfile.is_zipfile(file)
  with open(file, 'rb') as f:
    began = f.read(2) == b'PK'
  if began and not zipped:
    raise ValueError(
      f'{file} ends early, after {file.stat().st_size:,} bytes: the download '
      'is not complete, fetch it again'
    )
  try:
    # The options of the script that made it may stand beside the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
      found = torch.load(
        file, map_location='cpu', weights_only=True, mmap=zipped
      )
  except pickle.UnpicklingError as error:
    raise ValueError(_refused(file, error)) from error
  except (RuntimeError, EOFError) as error:
    raise ValueError(
      f'{file} does not read ({str(error).strip().splitlines()[0]}): the '
      'download is not complete, fetch it again'
    ) from error
  return _tensors(file, found)


def _tensors(file, found):
  import torch

  for key in _INSIDE:
    if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
      found = found[key]
  if not isinstance(found, Mapping):
    raise ValueError(
      f'{file} holds a {type(found).__name__}, no table of named tensors'
    )
  return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}


def _refused(file, error):
  named = re.search(r'GLOBAL (\S+)', str(error))
  what = f'code ({named[1]})' if named else 'more than tensors'
  return (
    f'{file} holds {what} in its pickle, which would run when it is read: it '
    'is refused. Ask for safetensors, or convert it where you trust it'
  )


def _numpy_dtype(file, name, tensor):
  import torch

  if tensor.dtype == torch.bfloat16:
    return np.dtype(ml_dtypes.bfloat16)
  if tensor.dtype.is_complex or 'float8' in str(tensor.dtype):
    raise ValueError(
      f'{file}: {name} is {tensor.dtype}: take the checkpoint that is not '
      'quantised'
    )
  return np.dtype(str(tensor.dtype).removeprefix('torch.'))
