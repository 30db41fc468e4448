"""A number from the decoder's hidden state: a reward, or a token's value.

The head stands in the tree of parameters like a module, `score_head`, and any
model takes it: `params | score_head(model)`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax.models import layers
from rlhfv_jax.models.head import Params, hidden
from rlhfv_jax.models.vlm import VLM

HEAD = 'score_head'


def score_head(model: VLM) -> dict[str, dict[str, jax.Array]]:
  """A fresh head in float32. It is zero: all answers start even."""
  width = model.config.text.width
  return {HEAD: {'weight': jnp.zeros(width), 'bias': jnp.zeros(())}}


def scores(
  model: VLM, params: Params, batch: Mapping[str, jax.Array]
) -> jax.Array:
  """f32[B,C]: each answer's score, read at the token `read` i32[B,C]."""
  states = hidden(model, params, batch)
  at = jnp.take_along_axis(states, batch['read'][..., None], axis=1)
  return score_of_hidden(params, at)


def values(
  model: VLM, params: Params, batch: Mapping[str, jax.Array]
) -> jax.Array:
  """f32[B,L]: the value of each token, told by its predecessor's state.

  So it is known before the token is. The first of a row, and padding, are 0.
  """
  parent, _, branch = rows.layout(batch['lengths'], rows.bucket_of(batch))
  told = score_of_hidden(params, hidden(model, params, batch))
  told = jnp.take_along_axis(told, jnp.maximum(parent, 0), axis=1)
  return jnp.where((branch >= 0) & (parent >= 0), told, 0)


def score_of_hidden(params: Params, states: jax.Array) -> jax.Array:
  """[..., D] -> [...], at least float32 whatever the decoder computed in."""
  if HEAD not in params:
    raise ValueError(
      f'these parameters have no {HEAD}: they are of a model that writes, not '
      'of one that judges; join a head, `params | models.score_head(model)`'
    )
  head = params[HEAD]
  states, weight = layers.upcast(states), layers.upcast(head['weight'])
  return jnp.matmul(states, weight, precision='highest') + head['bias']
