"""Slots: rows that are written side by side, each at a token of its own.

Keys and values of a row's new tokens lie in columns of their own order, so that
a row is summed up in one order whenever it began: to the bit it does not depend
on the others. Rows that begin together write one column, which costs less.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax import models
from rlhfv_jax.generate.decoding import Decoding, choose, stops


class State(NamedTuple):
  """B rows; those of one prompt may share its keys and values."""

  prompts: tuple[models.Cache, ...]  # of each layer
  new: tuple[models.Cache, ...]  # of each layer: column t for new token t
  lengths: jax.Array  # i32[B] of the prompts
  count: jax.Array  # i32[B] tokens written
  alive: jax.Array  # bool[B]
  keys: jax.Array  # [B] what a row draws from
  seen: jax.Array  # bool[B,V], for a repetition penalty; else [B,0]
  stage: jax.Array  # i32[B] how much is written of a text that ends answers
  tokens: jax.Array  # i32[B,max_new]
  logps: jax.Array  # f32[B,max_new]


def prefill(
  model: models.VLM, weights: models.Weights, batch: rows.Batch
) -> tuple[tuple[models.Cache, ...], jax.Array]:
  """All prompts at once: what is kept of them, logits of their first tokens."""
  tokens, lengths = batch['tokens'], batch['lengths']
  _, position, branch = rows.layout(lengths, batch.bucket)
  params = {'params': weights.rest}
  seen = models.features(model, weights.rest, batch)
  x = model.apply(params, tokens, seen, method='embed')
  pasts = (models.Past(),) * len(weights.layers)
  x, kept = models.forward(
    model, weights, x, position, rows.mask(branch), pasts
  )
  last = jnp.maximum(lengths[:, :1] - 1, 0)
  x = jnp.take_along_axis(x, last[..., None], axis=1)[:, 0]
  return kept, model.apply(params, x, method='predict')


def begin(
  model: models.VLM,
  weights: models.Weights,
  batch: Mapping[str, jax.Array],
  decoding: Decoding,
  key: jax.Array,
  *,
  each: int,
) -> tuple[State, jax.Array]:
  """Rows that have written nothing, `each` for a prompt, and their logits.

  A row draws from the number of its prompt in `index`, not from its place.
  """
  kept, logits = prefill(model, weights, batch)
  prompts, size = len(logits), logits.shape[-1]
  repeat = lambda x: jnp.repeat(x, each, axis=0)
  index = batch.get('index', jnp.arange(prompts))
  own = repeat(index) * each + jnp.tile(jnp.arange(each), prompts)
  lengths, new = batch['lengths'][:, 0], (prompts * each, decoding.max_new)
  seen = jnp.zeros((prompts, 0), bool)
  if decoding.repetition_penalty != 1:
    seen = jnp.zeros((prompts, size), bool)
    filled = jnp.arange(batch['tokens'].shape[1])[None] < lengths[:, None]
    # Padding, and a placeholder outside the vocabulary, are no words.
    words = jnp.where(filled & (batch['tokens'] >= 0), batch['tokens'], size)
    seen = seen.at[jnp.arange(prompts)[:, None], words].set(True, mode='drop')
  state = State(
    prompts=kept,
    new=(models.kept_by(model, *new),) * len(kept),
    lengths=repeat(lengths),
    count=jnp.zeros(new[0], jnp.int32),
    # A row without a prompt only fills the batch.
    alive=repeat(lengths) > 0,
    keys=jax.vmap(lambda i: jax.random.fold_in(key, i))(own),
    seen=repeat(seen),
    stage=jnp.zeros(new[0], jnp.int32),
    tokens=jnp.zeros(new, jnp.int32),
    logps=jnp.zeros(new, logits.dtype),
  )
  return state, repeat(logits)


def tick(
  model: models.VLM,
  weights: models.Weights,
  state: State,
  *,
  together: bool,
) -> tuple[State, jax.Array]:
  """The newest token of every row through the model, and what it predicts.

  Together: all rows that go on have written as many.
  """
  size, slots = state.tokens.shape[1], state.prompts[0].v.shape[2]
  newest = jnp.maximum(state.count - 1, 0)[:, None]
  tokens = jnp.take_along_axis(state.tokens, newest, axis=1)
  mask = (
    jnp.arange(slots)[None] < state.lengths[:, None],
    jnp.arange(size)[None] < state.count[:, None],
  )
  params = {'params': weights.rest}
  x, new = models.forward(
    model,
    weights,
    model.apply(params, tokens, method='embed'),
    state.lengths[:, None] + newest,
    mask,
    [
      models.Past(*both, newest.max() if together else newest[:, 0])
      for both in zip(state.prompts, state.new, strict=True)
    ],
  )
  logits = model.apply(params, x[:, 0], method='predict')
  return state._replace(new=new), logits


def write(state: State, logits: jax.Array, decoding: Decoding) -> State:
  """A next token for every row that goes on, and its log-probability."""
  keys = jax.vmap(jax.random.fold_in)(state.keys, state.count)
  token = choose(logits, decoding, keys=keys, seen=state.seen)
  return put(state, token, models.logps_from_logits(logits, token), decoding)


def put(
  state: State, token: jax.Array, logp: jax.Array, decoding: Decoding
) -> State:
  """These tokens at the end of every row that goes on."""
  row, alive = jnp.arange(len(token)), state.alive
  size = state.tokens.shape[1]
  place = (row, jnp.where(alive, state.count, size))
  seen = state.seen
  if seen.shape[1]:
    seen = seen.at[row, token].set(True)
  count = state.count + alive
  ended, stage = stops(token, state.stage, decoding)
  return state._replace(
    count=count,
    alive=alive & ~ended & (count < size),
    seen=seen,
    stage=stage,
    tokens=state.tokens.at[place].set(token, mode='drop'),
    logps=state.logps.at[place].set(logp, mode='drop'),
  )
