"""What is trained, and how: a regex table over parameters, and a schedule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from rlhfv_jax.sharding import path_name

TRAINED, DECAYED, FROZEN = 'trained', 'decayed', 'frozen'
KINDS = (TRAINED, DECAYED, FROZEN)

# Matrices decay, vectors do not; an experiment puts its frozen parts before.
RULES = ((r'.*(kernel|embedding)', DECAYED), (r'.*', TRAINED))
LAYERED = re.compile(r'.*layers/.*kernel')  # muon's matrices


def labels(params: Any, rules: Sequence[tuple[str, str]] = RULES) -> Any:
  """'trained', 'decayed' or 'frozen' for every parameter; first match wins."""
  for _, kind in rules:
    if kind not in KINDS:
      raise ValueError(f'config.train.rules: {kind!r} is none of {KINDS}')

  def find(path, x):
    name = path_name(path)
    for pattern, kind in rules:
      if re.fullmatch(pattern, name):
        if kind != FROZEN and not jnp.issubdtype(x.dtype, jnp.inexact):
          raise ValueError(
            f'config.train.rules: {name} is {x.dtype}, which cannot be '
            f'{kind}: freeze it, or keep it in another dtype'
          )
        return kind
    raise ValueError(
      f'config.train.rules cover every parameter, and none matches {name}: end '
      "with ('.*', 'trained') or ('.*', 'frozen')"
    )

  return jax.tree_util.tree_map_with_path(find, params)


def split(params: Any, labels: Any) -> tuple[Any, Any]:
  """(trained, frozen): each the same tree with holes (None) for the other."""
  keep = lambda want: jax.tree.map(
    lambda p, kind: p if (kind == FROZEN) == want else None, params, labels
  )
  return keep(False), keep(True)


def merge(trained: Any, frozen: Any) -> Any:
  """The inverse of `split`."""
  pick = lambda a, b: b if a is None else a
  return jax.tree.map(pick, trained, frozen, is_leaf=lambda x: x is None)


def cast_frozen(params: Any, labels: Any, dtype: Any) -> Any:
  """Frozen parameters in another dtype; steps of int8 and scales stay exact."""

  def cast(path, x, kind):
    exact = path_name(path).endswith('_scale')
    real = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(dtype) if kind == FROZEN and real and not exact else x

  return jax.tree_util.tree_map_with_path(cast, params, labels)


def optimizer(
  kind: str,
  labels: Any,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  clip: float = 1.0,
) -> optax.GradientTransformation:
  """A direction; the step multiplies it by the learning rate.

  For each number that is trained, adamw (arXiv 1711.05101) keeps 8 bytes,
  adamw_bf16 6, with its first moment in bfloat16, and adafactor (arXiv
  1804.04235) next to none: a second moment by row and by column, no first.
  muon (arXiv 2502.16982) keeps 4 of the matrices in layers, whose first moment
  it turns orthogonal.
  """
  decayed = jax.tree.map(lambda kind: kind == DECAYED, split(labels, labels)[0])
  scaled = {
    'adamw': lambda: optax.scale_by_adam(b1, b2, eps),
    'adamw_bf16': lambda: optax.scale_by_adam(
      b1, b2, eps, mu_dtype=jnp.bfloat16
    ),
    'adafactor': lambda: optax.chain(
      optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)
    ),
    'muon': lambda: _muon(b1, b2, eps),
  }
  if kind not in scaled:
    raise ValueError(
      f'config.train.optimizer = {kind!r}: choose one of {sorted(scaled)}'
    )
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    scaled[kind](),
    optax.add_decayed_weights(weight_decay, mask=decayed),
  )


def _muon(b1, b2, eps):
  """Adam's for all but the matrices in layers, whose steps are as long."""

  def matrices(params):
    axes = contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    return jax.tree_util.tree_map_with_path(
      lambda path, _: axes if LAYERED.fullmatch(path_name(path)) else None,
      params,
    )

  # It would descend by its own learning rate; this way it gives a direction.
  return contrib.muon(
    -1.0, eps=eps, adam_b1=b1, adam_b2=b2, consistent_rms=0.2,
    muon_weight_dimension_numbers=matrices,
  )  # fmt: skip


def schedule(
  kind: str, *, steps: int, warmup: float
) -> Callable[[jax.Array], jax.Array]:
  """The share of the peak learning rate: up over `warmup`, then down."""
  rise = max(1, round(warmup * steps))
  falls = {
    'constant': lambda t: jnp.ones_like(t),
    'linear': lambda t: 1 - t,
    'cosine': lambda t: 0.5 * (1 + jnp.cos(jnp.pi * t)),
  }
  if kind not in falls:
    raise ValueError(
      f'config.train.schedule = {kind!r}: choose one of {sorted(falls)}'
    )

  def factor(step):
    done = (step - rise) / max(1, steps - rise)
    return jnp.where(
      step < rise, (step + 1) / rise, falls[kind](jnp.clip(done, 0.0, 1.0))
    )

  return factor
