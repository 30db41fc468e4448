"""Where every array lives: one mesh, one table of rules over paths."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ('data', 'fsdp', 'tensor')
BATCH = P(('data', 'fsdp'))

# First match wins. Kernels are [in, out] behind the layer axis of their scan;
# the patterns begin with .* so that optimizer moments follow their parameter.
INWARD = r'(q_proj|k_proj|v_proj|gate_proj|up_proj|fc1)(/[AB])?'
OUTWARD = r'(o_proj|out_proj|down_proj|fc2)(/[AB])?'
RULES = (
  (r'.*embed_tokens/embedding', P('tensor', 'fsdp')),
  (r'.*lm_head/kernel', P('fsdp', 'tensor')),
  (rf'.*layers/.*{INWARD}/kernel', P(None, 'fsdp', 'tensor')),
  (rf'.*layers/.*{OUTWARD}/kernel', P(None, 'tensor', 'fsdp')),
  # Adapters lie as the side of the kernel that they meet.
  (rf'.*layers/.*{INWARD}/lora_a', P(None, 'fsdp')),
  (rf'.*layers/.*{INWARD}/lora_b', P(None, None, 'tensor')),
  (rf'.*layers/.*{OUTWARD}/lora_a', P(None, 'tensor')),
  (rf'.*layers/.*{OUTWARD}/lora_b', P(None, None, 'fsdp')),
  (r'.*mm_projector/.*kernel', P(None, ('fsdp', 'tensor'))),
  (r'.*vision_tower/.*', P()),
  (r'.*(norm|layernorm|bias|weight|scale|query|probe|lora_).*', P()),
)


def make_mesh(shape: Sequence[int] = (1, -1, 1)) -> Mesh:
  """The mesh (data, fsdp, tensor); one -1 takes the devices that are left."""
  devices, shape = jax.device_count(), list(shape)
  if len(shape) != 3 or shape.count(-1) > 1 or 0 in shape:
    raise ValueError(
      f'config.mesh = {tuple(shape)}: give three sizes for {AXES}, '
      'at most one of them -1'
    )
  if -1 in shape:
    known = -math.prod(shape)
    shape[shape.index(-1)] = devices // known if devices % known == 0 else 0
  if math.prod(shape) != devices:
    raise ValueError(
      f'config.mesh = {tuple(shape)} takes {math.prod(shape)} devices and '
      f'{devices} are here: make the three sizes multiply to {devices}'
    )
  return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3)


def check_batch(batch: int, mesh: Mesh, *, micro: int = 1) -> None:
  """The batch must split over micro-batches and the mesh's batch axes."""
  shards = mesh.shape['data'] * mesh.shape['fsdp']
  if batch % (micro * shards):
    raise ValueError(
      f'a batch of {batch} rows does not divide into {micro} micro-batches '
      f'over {shards} shards (mesh {dict(mesh.shape)}): make it a multiple of '
      f'{micro * shards}'
    )


def path_name(path: Sequence[Any]) -> str:
  """A tree path as people write it: language_model/lm_head/kernel."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def specs(tree: Any, mesh: Mesh, rules: Sequence = RULES) -> Any:
  """A NamedSharding for every array; one that no rule covers is an error."""

  def find(path, x):
    name = path_name(path)
    if x.ndim == 0:
      return NamedSharding(mesh, P())
    for pattern, spec in rules:
      if re.fullmatch(pattern, name):
        return NamedSharding(mesh, fit(name, x.shape, spec, mesh))
    raise ValueError(
      f'no sharding rule matches {name} {x.shape}: add one to RULES in '
      'rlhfv_jax/sharding.py'
    )

  return jax.tree_util.tree_map_with_path(find, tree)


def fit(name: str, shape: Sequence[int], spec: P, mesh: Mesh) -> P:
  """The spec, once it is sure that the mesh's sizes divide the array's."""
  for size, axes in zip(shape, spec, strict=False):
    axes = (axes,) if isinstance(axes, str) else axes or ()
    parts = math.prod(mesh.shape[a] for a in axes)
    if size % parts:
      raise ValueError(
        f'{name} {tuple(shape)}: {size} does not divide over {axes} = {parts}: '
        'change config.mesh, or that size in config.model'
      )
  return spec


def batch_to_devices(batch: Any, mesh: Mesh) -> Any:
  """This process's slice of a global batch, as one array over the mesh."""
  place = NamedSharding(mesh, BATCH)
  put = lambda x: jax.make_array_from_process_local_data(place, np.asarray(x))
  return jax.tree.map(put, batch)


def replicated(tree: Any, mesh: Mesh) -> Any:
  """The same shape of tree, every leaf whole on every device."""
  return jax.tree.map(lambda _: NamedSharding(mesh, P()), tree)


def scalars(values: Mapping[str, float], mesh: Mesh) -> dict[str, jax.Array]:
  """Hyper-parameters as float32 arguments: another value, the same program."""
  place = NamedSharding(mesh, P())
  return {k: jax.device_put(np.float32(v), place) for k, v in values.items()}
