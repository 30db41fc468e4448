"""Tensors out: from sharded arrays into safetensors files, a file at a time."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import save_file
from tqdm import tqdm

from rlhfv_jax import files
from rlhfv_jax.convert import words
from rlhfv_jax.convert.tables import Slot, to_theirs
from rlhfv_jax.models import lora
from rlhfv_jax.models.config import VLMConfig


class Entry(NamedTuple):
  """A tensor of theirs before it is made; with no slot, what fills it."""

  slot: Slot | None
  shape: tuple[int, ...]
  dtype: np.dtype
  full: str = ''  # eye, ones or zeros

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


def save(
  folder: Path,
  stem: str,
  params: Mapping[str, Any],
  entries: Mapping[str, Entry],
  config: VLMConfig,
  *,
  shard_bytes: int,
) -> None:
  """Flat parameters as STEM.safetensors, or numbered shards with an index.

  The host holds one shard at a time. Adapters go into their kernels unless
  they are asked for by name. Every process takes part, the first one writes.
  """
  shards = _shards(entries, shard_bytes)
  where = {}
  total = sum(entry.nbytes for entry in entries.values())
  with tqdm(total=total, unit='B', unit_scale=True, desc='export') as bar:
    for number, names in enumerate(shards, 1):
      file = f'{stem}.safetensors'
      if len(shards) > 1:
        file = f'{stem}-{number:05d}-of-{len(shards):05d}.safetensors'
      tensors = {}
      for name in names:
        tensors[name] = _tensor(params, entries[name], config)
        bar.update(entries[name].nbytes)
        where[name] = file
      if jax.process_index() == 0:
        save_file(tensors, folder / file, metadata={'format': 'pt'})
        # The library's file is for its owner alone; others read an export.
        (folder / file).chmod(folder.stat().st_mode & 0o666)
  if len(shards) > 1:
    index = {'metadata': {'total_size': total}, 'weight_map': where}
    files.write_json(folder / f'{stem}.safetensors.index.json', index)


def _shards(entries, shard_bytes):
  """Names by file, in the order in which people count layers."""
  shards, room = [[]], shard_bytes
  for name in sorted(entries, key=_by_number):
    if shards[-1] and entries[name].nbytes > room:
      shards.append([])
      room = shard_bytes
    shards[-1].append(name)
    room -= entries[name].nbytes
  return shards


def _by_number(name):
  pieces = re.split(r'(\d+)', name)
  return [int(p) if i % 2 else p for i, p in enumerate(pieces)]


def _tensor(params, entry, config):
  if entry.slot is None:
    if entry.full == 'eye':
      return np.eye(*entry.shape, dtype=entry.dtype)
    return np.full(entry.shape, entry.full == 'ones', entry.dtype)
  path, layer, _ = entry.slot
  at, _, leaf = path.rpartition('/')
  leaves = {leaf: params[path]}
  if leaf == 'kernel':
    for name in lora.LEAVES:
      if f'{at}/{name}' in params:
        leaves[name] = params[f'{at}/{name}']
  take = _taker(getattr(params[path], 'sharding', None))
  taken = np.asarray(take(leaves, layer, leaf=leaf, dtype=entry.dtype.name))
  theirs = np.ascontiguousarray(to_theirs(taken, path, config))
  return words.resize(theirs, entry.shape[0])


@functools.cache
def _taker(place):
  """A jitted `_taken` whose result every process has whole."""
  if not isinstance(place, NamedSharding):
    return jax.jit(_taken, static_argnames=('leaf', 'dtype'))
  whole = NamedSharding(place.mesh, P())
  return jax.jit(_taken, static_argnames=('leaf', 'dtype'), out_shardings=whole)


def _taken(leaves, layer, *, leaf, dtype):
  """One leaf, or a layer of it, with the adapters beside it merged in."""
  if layer is not None:
    at = functools.partial(jax.lax.dynamic_index_in_dim, keepdims=False)
    leaves = {name: at(x, layer) for name, x in leaves.items()}
  if 'lora_a' in leaves and leaf == 'kernel':
    leaves = lora.merge(leaves)
  return leaves[leaf].astype(dtype)
