"""The decoder a layer at a time, each with arrays of its own: it writes text.

A scan would copy a layer out of the stack at every token, weights and cache.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rlhfv_jax.models import layers
from rlhfv_jax.models.llama import Cache, Layer, Past, rotary_rates
from rlhfv_jax.models.vlm import VLM

# What is multiplied is cast to the model's dtype before it is used, always.
_CAST = ('kernel', 'embedding', 'lora_a', 'lora_b')


class Weights(NamedTuple):
  """A model's parameters: those of each layer, and the rest."""

  layers: tuple[Any, ...]
  rest: dict[str, Any]


def split(model: VLM, params: Mapping[str, Any]) -> Weights:
  """Parameters as `forward` reads them, in the dtype it computes in.

  The decoder is there twice as long as `params` live too.
  """
  take = functools.partial(_split, model)
  where = jax.tree.map(_place, params)
  if any(place is None for place in jax.tree.leaves(
      where, is_leaf=lambda x: x is None)):  # fmt: skip
    return jax.jit(take)(params)
  return jax.jit(take, out_shardings=_places(model, where))(params)


def abstract(model: VLM, params: Mapping[str, Any]) -> Weights:
  """The shapes of `split`, and where they would live."""
  made = jax.eval_shape(functools.partial(_split, model), params)
  places = _places(model, jax.tree.map(_place, params))
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    made, places,
  )  # fmt: skip


def _places(model, where):
  stacked = where['language_model']['layers']
  inner = jax.tree.map(lambda s: NamedSharding(s.mesh, P(*s.spec[1:])), stacked)
  return Weights((inner,) * model.config.text.depth, _without_layers(where))


def _place(x):
  place = getattr(x, 'sharding', None)
  return place if isinstance(place, NamedSharding) else None


def _without_layers(params):
  text = {k: v for k, v in params['language_model'].items() if k != 'layers'}
  return {**params, 'language_model': text}


def _split(model, params):
  def cast(path, x):
    ours = path[-1].key in _CAST and jax.numpy.issubdtype(x.dtype, float)
    return x.astype(model.config.dtype) if ours else x

  text = jax.tree_util.tree_map_with_path(cast, params['language_model'])
  stacked = text['layers']
  return Weights(
    tuple(
      jax.tree.map(lambda x, i=i: x[i], stacked)
      for i in range(model.config.text.depth)
    ),
    _without_layers({**params, 'language_model': text}),
  )


def forward(
  model: VLM,
  weights: Weights,
  x_BLD: jax.Array,
  position_BL: jax.Array,
  mask: Any,
  pasts: Sequence[Past],
) -> tuple[jax.Array, tuple[Cache, ...]]:
  """Embedded tokens through all layers -> what the last made, what each kept.

  `llama.Layer` says what `mask` and the pasts are.
  """
  text = model.config.text
  angles = layers.rotary_angles(position_BL, rotary_rates(text))
  layer, kept = Layer(text, model.config.dtype), []
  for own, past in zip(weights.layers, pasts, strict=True):
    x_BLD, cache = layer.apply({'params': own}, x_BLD, angles, mask, past)
    kept.append(cache)
  return x_BLD, tuple(kept)


def kept_by(model: VLM, rows: int, slots: int) -> Cache:
  """Room for so many tokens of so many rows in one layer, as yet zeros."""
  text, dtype = model.config.text, model.config.dtype
  zeros = functools.partial(jax.numpy.zeros, dtype=dtype)
  head = (rows, text.kv_heads)
  return Cache(
    zeros((*head, text.head_dim, slots)), zeros((*head, slots, text.head_dim))
  )
