"""Will it fit, and how fast can it be: a config's steps on chips not here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlhfv_jax import meshes, models
from rlhfv_jax.batch import Bucket
from rlhfv_jax.preflight import apart, case, knobs, steps, topology
from rlhfv_jax.stages import problem

APART = ('two_rows', 'plain_rows')  # what sharing the trunk is held against


def look(
  config: Any,
  *,
  name: str,
  place: str,
  bucket: tuple[int, int, int] | None = None,
  largest: bool = False,
  only: Sequence[str] = ('training',),
  progress: Callable[[str], None] = print,
) -> dict[str, Any]:
  """All that preflight says of a config on chips that are not here."""
  here, slice_ = meshes.find(place)
  mesh = topology.mesh(slice_, config.mesh)
  s = problem.Setup(
    config, None, mesh, None, models.build(config.model), {}, {}
  )
  shape = Bucket(*bucket) if bucket else steps.default_bucket(s)
  c, rows = case.Case(s, slice_, shape), config.train.batch
  case.check(c, rows)
  found = {
    'config': name,
    'topology': here,
    'chips': mesh.size,
    'mesh': list(mesh.devices.shape),
    'bucket': list(shape),
    'rows': rows,
    'rows_a_chip': rows / mesh.size,
    'warnings': case.warnings(c, rows),
    'states': knobs.states(s),
    'kept': knobs.kept(s, shape, rows),
  }

  def train(rows):
    progress(f'compiling the training step for {rows} rows ...')
    return case.training(c, rows)

  if 'training' in only or largest:
    found['training'] = train(rows)
  for layout in APART:
    if layout in only:
      progress(f'compiling the step over {rows} pairs in {layout} ...')
      made = apart.training(s, shape, rows, plain=layout == 'plain_rows')
      found[layout] = case.apart(c, made, rows)
  if largest:
    found['largest'] = case.largest(c, found['training'], rows, train)
  if 'reference' in only:
    progress('compiling the reference step ...')
    batch = config.reference.batch
    found['reference'] = case.described(c, steps.reference(s, shape, batch))
  if 'decoding' in only:
    progress('compiling the decoding loop ...')
    slots, new = config.evaluate.batch, config.evaluate.max_new
    made = steps.decoding(s, shape.trunk, slots, new)
    found['decoding'] = case.described(c, made)
  return found
