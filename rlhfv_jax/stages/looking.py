"""Rows with what the tower saw of their pictures, where it stays as it is."""

from __future__ import annotations

import jax

from rlhfv_jax import looks, optim, scoring
from rlhfv_jax.stages import problem, provenance
from rlhfv_jax.stages.problem import Data, Setup
from rlhfv_jax.train import adapt

TOWER = ('vision_tower', 'query')


def looked(s: Setup, data: Data, split: str) -> Data:
  """By config.data.features: as they are, or with features in their place."""
  how = s.config.data.features
  if how not in ('none', 'cache'):
    raise ValueError(f'config.data.features = {how!r}: choose none or cache')
  if how == 'none' or data.images is None:
    return data
  path, begin = problem.base(s), problem.start(s)
  like = problem.abstract_params(s)
  kinds = optim.labels(adapt.abstract(like, begin, s.mesh), begin.rules)
  for name in TOWER:
    if set(jax.tree.leaves(kinds.get(name, {}))) - {optim.FROZEN}:
      raise ValueError(
        'config.data.features = cache keeps what the tower sees, and here '
        f"{name} is trained: put the rule ('(vision_tower|query).*', "
        "'frozen') before the others of config.train.rules, or choose none"
      )
  tower = {k: v for k, v in like.items() if k in TOWER}
  if (path.parent / adapt.NOTE).exists():
    params = {k: problem.load(s, path)[k] for k in tower}
  else:
    params = adapt.whole(path, tower, s.mesh, part=True)
  names = [data.digests(i) for i in range(len(data.rows))]
  seen = looks.features(
    s.model, params, data.images, names=names, folder=s.folder / 'seen' / split,
    fingerprint={
      'parameters': scoring.params_digest(params),
      'pictures': provenance.digest(s.config.image.to_dict()),
      'dtype': s.config.model.dtype,
    },
    batch=s.config.reference.batch, mesh=s.mesh,
  )  # fmt: skip
  return data._replace(images=seen)
