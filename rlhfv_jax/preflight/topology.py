"""Chips that are not here: the compiler of a TPU, on a machine without one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from rlhfv_jax import meshes, sharding

# libtpu looks for a TPU, and for the cloud around it, unless it is told.
ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_LOG_DIR': 'disabled',
  'TPU_STDERR_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def devices(slice_: meshes.Slice) -> Sequence[Any]:
  """The chips of a slice, as things to compile for."""
  if not slice_.topology:
    raise ValueError(
      'preflight compiles for TPUs alone: a GPU or a CPU has to be there'
    )
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError(
      "libtpu is not installed, which compiles for TPUs: pip install -e "
      "'.[tpu]' (0.2 GB), and keep JAX_PLATFORMS=cpu for everything else"
    )  # fmt: skip
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  from jax.experimental import topologies

  more = {}
  if slice_.chip == 'v4':
    more['chip_config_name'] = 'megacore'  # both cores of a chip are one device
  if slice_.chips == 1:
    more['chips_per_host_bounds'] = (1, 1, 1)
  if slice_.slices > 1:
    more['num_slices'] = slice_.slices
  found = topologies.get_topology_desc(
    platform='tpu', topology_name=slice_.topology, **more
  )
  return found.devices


def mesh(slice_: meshes.Slice, shape: Sequence[int]) -> Mesh:
  """The mesh that a run on these chips would make."""
  jax.config.update('jax_platforms', 'cpu')
  return sharding.make_mesh(shape, devices(slice_))
