"""Weights in: from files straight into sharded arrays, a tensor at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from rlhfv_jax import models, sharding
from rlhfv_jax.convert import hub, shards, words
from rlhfv_jax.convert.match import BEIT3_POSITIONS
from rlhfv_jax.convert.plan import Plan, Source, plan
from rlhfv_jax.convert.tables import to_ours
from rlhfv_jax.models.beit3 import resize_positions
from rlhfv_jax.models.config import VLMConfig


def import_weights(
  path: str | Path | Sequence[str | Path],
  model_config: Mapping[str, Any] | VLMConfig,
  *,
  mesh: Mesh | None = None,
  dtype: str | None = None,
  fresh: Sequence[str] = (),
  revision: str | None = None,
) -> dict[str, Any]:
  """The parameters of a checkpoint, each born on its devices.

  `path` is a folder, a file, an id of the hub, or several that together make
  the model: a decoder, a tower, adapters. `dtype` is that of the files unless
  given (float16 becomes float32, which holds it). Leaves that match a pattern
  of `fresh` may be missing and are drawn; words that are missing in them
  become the mean word.
  """
  paths = [path] if isinstance(path, str | Path) else path
  folders = [hub.fetch(p, revision=revision) for p in paths]
  made = plan(folders, model_config, dtype=dtype, fresh=fresh)
  return fill(made, mesh or one_device())


def one_device() -> Mesh:
  """The mesh of the first device here: everything is whole."""
  devices = np.array(jax.local_devices()[:1]).reshape(1, 1, 1)
  return Mesh(devices, sharding.AXES)


def fill(plan: Plan, mesh: Mesh) -> dict[str, Any]:
  """Carries out a plan. The host holds three tensors at a time: one is read,
  one goes to its devices, one into its leaf.
  """
  places = sharding.specs(plan.leaves, mesh)
  for source in plan.sources:
    _check_implied(source)
  leaves = _draw(plan, places) | _stacks(plan, places)
  for path, scale in plan.scales.items():
    leaves[path] = jax.device_put(scale, NamedSharding(mesh, P()))
  before = None
  with tqdm(total=_size(plan), unit='B', unit_scale=True, desc='import') as bar:
    for slot, x in _ahead(_tensors(plan)):
      part = to_ours(_fitted(x, slot), slot.path)
      _put(leaves, slot, part, plan.leaves[slot.path], places[slot.path])
      if before is not None:
        leaves[before].block_until_ready()
      before = slot.path
      bar.update(x.nbytes)
  return unflatten_dict(leaves, sep='/')


def _tensors(plan):
  """Every tensor that is read, with its place, as the files have them."""
  for source in plan.sources:
    slots = source.match.slots
    for name, x in shards.read(source.tensors, slots):
      yield slots[name], x


def _size(plan):
  wanted = [s.tensors[n] for s in plan.sources for n in s.match.slots]
  return sum(math.prod(t.shape) * t.dtype.itemsize for t in wanted)


def _put(leaves, slot, part, like, place):
  """A tensor into its leaf, in place where the leaf is a stack of layers."""
  if slot.layer is None:
    leaves[slot.path] = _to_devices(part, place).astype(like.dtype)
    return
  inside = NamedSharding(place.mesh, P(*place.spec[1:]))
  leaves[slot.path] = _set_layer(place)(
    leaves[slot.path], _to_devices(part, inside), slot.layer
  )


def _stacks(plan, places):
  """Room for the layers of every leaf that has some.

  All at once: while their pages are made, the first tensors are read.
  """
  slots = (s for source in plan.sources for s in source.match.slots.values())
  stacked = {slot.path for slot in slots if slot.layer is not None}
  return {
    path: jnp.zeros(like.shape, like.dtype, device=places[path])
    for path, like in plan.leaves.items()
    if path in stacked
  }


def _to_devices(x, place):
  return jax.make_array_from_callback(x.shape, place, lambda index: x[index])


@functools.cache
def _set_layer(place):
  def set_layer(leaf, part, layer):
    part = part.astype(leaf.dtype)
    return jax.lax.dynamic_update_index_in_dim(leaf, part, layer, 0)

  return jax.jit(set_layer, donate_argnums=0, out_shardings=place)


def _ahead(items: Iterator) -> Iterator:
  """The same, the next one being read while this one is used."""
  with ThreadPoolExecutor(1) as reader:
    waiting = reader.submit(next, items, None)
    while (item := waiting.result()) is not None:
      waiting = reader.submit(next, items, None)
      yield item


def _fitted(x, slot):
  """Position tables at the model's size, and words at its number."""
  if x.shape == slot.shape:
    return x
  if slot.path == BEIT3_POSITIONS:
    return resize_positions(x, patches=slot.shape[0] - 3)
  assert slot.path in words.LEAVES, slot
  return words.resize(x, slot.shape[0])


def _check_implied(source: Source) -> None:
  """Tensors that are not read must be what the leaves say they are."""
  slots = source.match.slots.items()
  table = {name for name, slot in slots if slot.path == words.LEAVES[0]}
  for name, what in source.match.implied.items():
    ((_, x),) = shards.read(source.tensors, {name})
    if what == 'words':
      ((_, other),) = shards.read(source.tensors, table)
    else:
      other = np.eye(*x.shape) if what == 'eye' else np.zeros(x.shape)
    if not np.array_equal(x, other.astype(x.dtype)):
      raise ValueError(
        f'{name} in {source.tensors[name].file} has weights of its own, and '
        f'the model has none in its place: {_IMPLIED[what]}'
      )


_IMPLIED = {
  'eye': "set connector to 'mlp2x'",
  'zeros': "set connector to 'mlp2x'",
  'words': 'set text.tie_head to False',
}


def _draw(plan, places):
  """The leaves that no source gives, as a new model would have them."""
  if not plan.drawn:
    return {}
  model = models.build(plan.config)

  def some(key):
    every = flatten_dict(models.init(model, key), sep='/')
    return {p: every[p].astype(plan.leaves[p].dtype) for p in plan.drawn}

  wanted = {path: places[path] for path in plan.drawn}
  return jax.jit(some, out_shardings=wanted)(jax.random.key(0))
