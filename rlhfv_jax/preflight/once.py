"""What a program was found to take stays in a file: it is compiled once.

JAX keeps programs too, and cannot read those of chips that are not here again.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from rlhfv_jax import files, sharding

NOWHERE = Path('runs/.compiled')  # where JAX_COMPILATION_CACHE_DIR is not set


def kept(
  lowered: Any, mesh: Mesh, make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
  """What `make` says of a lowered program on a mesh, now or earlier."""
  folder = Path(jax.config.jax_compilation_cache_dir or NOWHERE)
  path = folder / f'preflight-{_name(lowered, mesh)}.json.gz'
  if path.exists():
    return json.loads(gzip.decompress(path.read_bytes()))
  found = make()
  files.write_bytes(path, gzip.compress(json.dumps(found).encode(), mtime=0))
  return found


def _name(lowered, mesh):
  """Of all that the result depends on."""
  first = mesh.devices.flat[0]
  asked = [
    lowered.as_text(),
    [importlib.metadata.version(n) for n in ('jax', 'jaxlib', 'libtpu')],
    [os.environ.get(n) for n in ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')],
    [first.device_kind, first.num_cores, sharding.compiler(mesh)],
    # Where the chips are, in the order that the mesh has them in.
    [[*d.coords, getattr(d, 'slice_index', 0)] for d in mesh.devices.flat],
    list(mesh.shape.items()),
  ]
  return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]
