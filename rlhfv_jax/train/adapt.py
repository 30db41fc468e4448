"""A base that stays, and adapters on it: they alone are trained and written."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from rlhfv_jax import files, optim, sharding
from rlhfv_jax.checkpoint import load_params, stored
from rlhfv_jax.models import lora, quantize
from rlhfv_jax.models.score import HEAD

KINDS = ('float32', 'bfloat16', 'int8')
NOTE = 'adapters.json'  # what the adapters beside it are on


@dataclasses.dataclass(frozen=True)
class Start:
  """What a training makes of the parameters it starts from.

  What `rules` freeze is kept in float32, which changes nothing, in bfloat16, or
  in int8 (the kernels of the decoder, and bfloat16 for the rest).
  """

  kept: str
  rules: Sequence[tuple[str, str]]
  seed: int
  rank: int = 0  # of the adapters; 0 is without
  alpha: float = 0.0
  targets: str = ''

  def __post_init__(self):
    object.__setattr__(self, 'rules', tuple(map(tuple, self.rules)))
    if self.kept not in KINDS:
      raise ValueError(
        'config.lora.base with adapters, config.train.frozen_dtype without: '
        f'{self.kept!r} is none of {", ".join(KINDS)}'
      )


def begin(path: Path, like: Any, start: Start, mesh: Mesh) -> Any:
  """The parameters in a folder as a training starts from them.

  A score head in `like` is new, and zero: what is judged with was a writer.
  """
  head = {k: v for k, v in like.items() if k == HEAD}
  like = {k: v for k, v in like.items() if k != HEAD}
  zero = lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding)
  params = base(path, like, start, mesh) | jax.tree.map(zero, head)
  if not start.rank:
    return params

  @jax.jit
  def fresh(key):
    how = dict(rank=start.rank, alpha=start.alpha, targets=start.targets)
    return _placed(lora.init(like, key, **how), mesh)

  return lora.join(params, fresh(jax.random.key(start.seed)))


def abstract(like: Any, start: Start, mesh: Mesh) -> Any:
  """The shapes of `begin`, and where they would live; nothing is read."""

  def made(params, key):
    kept = keep(params, start)
    if not start.rank:
      return kept
    how = dict(rank=start.rank, alpha=start.alpha, targets=start.targets)
    return lora.join(kept, lora.init(params, key, **how))

  found = jax.eval_shape(made, like, jax.random.key(start.seed))
  return sharding.abstract(found, mesh)


def base(path: Path, like: Any, start: Start, mesh: Mesh) -> Any:
  """The parameters in a folder, those that are frozen as they are kept.

  They come one at a time: no chip holds a large model in both forms.
  """
  if (path.parent / NOTE).exists():
    return _kept(load(path, like, mesh), start, mesh)
  if start.kept == 'float32':
    return whole(path, like, mesh)
  found = {}
  for name, leaf in flatten_dict(like).items():
    one = whole(path, unflatten_dict({name: leaf}), mesh, part=True)
    found |= flatten_dict(_kept(one, start, mesh))
  return unflatten_dict(found)


def whole(path: Path, like: Any, mesh: Mesh, *, part: bool = False) -> Any:
  """The parameters in a folder, all or a part; adapters that an import brought
  with them go into their kernels.
  """
  flat = flatten_dict(like)
  beside = {
    k: x for k, x in flatten_dict(lora.adapters(stored(path))).items()
    if (*k[:-1], 'kernel') in flat
  }  # fmt: skip
  if not beside:
    return load_params(path, like, part=part)
  beside = sharding.abstract(unflatten_dict(beside), mesh)
  return _merged(load_params(path, lora.join(like, beside), part=part), mesh)


def keep(params: Any, start: Start) -> Any:
  """Frozen parameters in the form they are kept in."""
  if start.kept == 'float32':
    return params
  if start.kept == 'int8':
    params = quantize.to_int8(params)
  labels = optim.labels(params, start.rules)
  return optim.cast_frozen(params, labels, jnp.bfloat16)


def plain(params: Any) -> Any:
  """The same model without adapters and in float32 or bfloat16."""
  return lora.merge(quantize.dequantize(params))


def saved(params: Any, labels: Any) -> Any:
  """What is written: with adapters what is trained, else everything.

  `optim.merge` puts it back among what the base has.
  """
  alone = bool(lora.adapters(params))
  return optim.split(params, labels)[0] if alone else params


def note(folder: Path, path: Path, start: Start) -> None:
  """Says beside a training's parameters what they are on."""
  where = os.path.relpath(path, folder)
  about = {'base': where, 'start': dataclasses.asdict(start)}
  files.write_json(folder / NOTE, about)


def load(path: Path, like: Any, mesh: Mesh) -> Any:
  """The parameters in a folder: whole, or adapters with what they are on."""
  if not (path.parent / NOTE).exists():
    return whole(path, like, mesh)
  about = files.read_json(path.parent / NOTE)
  start = Start(**about['start'])
  params = begin(path.parent / about['base'], like, start, mesh)
  part = saved(params, optim.labels(params, start.rules))
  return optim.merge(load_params(path, part), params)


@functools.partial(jax.jit, static_argnames=('start', 'mesh'))
def _kept(params, start, mesh):
  return _placed(keep(plain(params), start), mesh)


@functools.partial(jax.jit, static_argnames='mesh')
def _merged(params, mesh):
  return _placed(lora.merge(params), mesh)


def _placed(tree, mesh):
  place = sharding.specs(tree, mesh)
  return jax.lax.with_sharding_constraint(tree, place)
