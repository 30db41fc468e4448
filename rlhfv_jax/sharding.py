"""Where every array lives: one mesh, one table of rules over paths."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhfv_jax import meshes

AXES = ('data', 'fsdp', 'tensor')
BATCH = P(('data', 'fsdp'))

# First match wins. Kernels are [in, out] behind the layer axis of their scan;
# the patterns begin with .* so that optimizer moments follow their parameter.
INWARD = r'(q_proj|k_proj|v_proj|gate_proj|up_proj|fc1)(/[AB])?'
OUTWARD = r'(o_proj|out_proj|down_proj|fc2)(/[AB])?'
RULES = (
  # What Adafactor keeps of a matrix: its rows and its columns, vectors both.
  (r'.*v_(row|col)/.*', P()),
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
  (r'.*(norm|layernorm|bias|weight|scale|query|probe|counter|lora_).*', P()),
  (r'.*ns_coeffs', P()),  # muon's polynomial
)


def make_mesh(
  shape: Sequence[int] = (1, -1, 1), devices: Sequence[Any] | None = None
) -> Mesh:
  """The mesh (data, fsdp, tensor); one -1 takes the devices that are left.

  Over several slices of chips the first axis runs from slice to slice.
  """
  devices = list(jax.devices() if devices is None else devices)
  count, shape = len(devices), list(shape)
  if len(shape) != 3 or shape.count(-1) > 1 or 0 in shape:
    raise ValueError(
      f'config.mesh = {tuple(shape)}: give three sizes for {AXES}, '
      'at most one of them -1'
    )
  if -1 in shape:
    known = -math.prod(shape)
    shape[shape.index(-1)] = count // known if count % known == 0 else 0
  if math.prod(shape) != count:
    raise ValueError(
      f'config.mesh = {tuple(shape)} takes {math.prod(shape)} devices and '
      f'{count} are here: make the three sizes multiply to {count}'
    )
  slices = len({getattr(d, 'slice_index', 0) for d in devices})
  if slices == 1:
    return jax.make_mesh(
      tuple(shape), AXES, devices=devices, axis_types=(AxisType.Auto,) * 3
    )
  if shape[0] % slices:
    raise ValueError(
      f'config.mesh = {tuple(shape)} lies over {slices} slices of chips: make '
      f'the first size a multiple of {slices}, so that each holds the model'
    )
  inner = (shape[0] // slices, *shape[1:])
  found = mesh_utils.create_hybrid_device_mesh(
    inner, (slices, 1, 1), devices=devices
  )
  return Mesh(found, AXES, axis_types=(AxisType.Auto,) * 3)


def platform() -> str:
  """Of the mesh that is set, which may be of chips that are not here."""
  device = getattr(jax.sharding.get_abstract_mesh(), 'abstract_device', None)
  return getattr(device, 'platform', None) or jax.default_backend()


def by_rows(x: jax.Array) -> jax.Array:
  """Activations lie as the batch does, where a mesh is set that divides it.

  Not on the devices made of one CPU: their collectives, of which this makes
  more, wait for each other until the runtime gives up.
  """
  if platform() == 'cpu':
    return x
  mesh = jax.sharding.get_abstract_mesh()
  parts = math.prod(mesh.shape.get(a, 1) for a in BATCH[0])
  if parts == 1 or x.shape[0] % parts:
    return x
  return jax.lax.with_sharding_constraint(x, BATCH)


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
    if x.size == 1:  # a number, or what an optimizer has no use for
      return NamedSharding(mesh, P())
    for pattern, spec in rules:
      if re.fullmatch(pattern, name):
        return NamedSharding(mesh, fit(name, x.shape, spec, mesh))
    raise ValueError(
      f'no sharding rule matches {name} {x.shape}: add one to RULES in '
      'rlhfv_jax/sharding.py'
    )

  return jax.tree_util.tree_map_with_path(find, tree)


def abstract(tree: Any, mesh: Mesh, rules: Sequence = RULES) -> Any:
  """Shapes and dtypes, each with where it would live."""
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    tree,
    specs(tree, mesh, rules),
  )


def compiler(mesh: Mesh) -> dict[str, str] | None:
  """What jit's compiler is told on the chips of this mesh."""
  return meshes.options(mesh.devices.flat[0].device_kind) or None


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
