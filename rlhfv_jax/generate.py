"""Answers: one prefill of the prompts, then a token at a time until all stop.

Prompts are right-padded and ragged. Slot T + t of the cache holds new token t
of every row, whatever the prompt's length; positions go on from that length,
and the mask leaves out the slots of the padding between.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax import models


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How tokens are chosen. Temperature 0 is greedy; `n` answers a prompt.

  Above 0: of the `top_k` likeliest (0: all) the smallest set that holds
  `top_p` of the probability. An answer ends with one of the ids in `stop`.
  """

  max_new: int
  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  n: int = 1
  stop: tuple[int, ...] = ()

  def __post_init__(self):
    object.__setattr__(self, 'stop', tuple(self.stop))
    for name, fine in (
      ('max_new', self.max_new >= 1),
      ('temperature', self.temperature >= 0),
      ('top_p', 0 < self.top_p <= 1),
      ('top_k', self.top_k >= 0),
      ('n', self.n >= 1),
    ):
      if not fine:
        raise ValueError(f'decoding: {name} cannot be {getattr(self, name)}')


def generate(
  model: models.VLM,
  params: Mapping[str, Any],
  batch: Mapping[str, jax.Array],
  decoding: Decoding,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Prompts of a batch -> tokens i32 and logps f32, both [B*n, max_new].

  The n answers of a prompt are neighbours. Tokens end with the stop token, then
  0; logps are those of the untempered distribution, 0 after the stop.
  """
  bucket, limit = rows.bucket_of(batch), model.config.text.max_length
  if bucket.answers != 1 or bucket.branch:
    raise ValueError(
      f'bucket {tuple(bucket)} has branches: prompts are trunks, (T, 0, 1)'
    )
  if bucket.trunk + decoding.max_new > limit:
    raise ValueError(
      f'prompts of {bucket.trunk} and {decoding.max_new} new tokens pass '
      f'text.max_length {limit}: shorten either or raise it'
    )
  # Whatever else the batch carries must not cost a compilation.
  names = ('tokens', 'lengths', 'images', 'features')
  batch = rows.Batch({k: batch[k] for k in names if k in batch}, bucket)
  return _generate(model, decoding, params, batch, key)


class _State(NamedTuple):
  step: jax.Array
  cache: models.Cache
  alive: jax.Array
  tokens: jax.Array
  logps: jax.Array


@partial(jax.jit, static_argnums=(0, 1))
def _generate(model, decoding, params, batch, key):
  prompt = batch['tokens'].shape[1]
  cache, logits = _prefill(model, params, batch)
  each = partial(jnp.repeat, repeats=decoding.n, axis=0)
  lengths, logits = each(batch['lengths'][:, 0]), each(logits)
  new = (len(lengths), decoding.max_new)
  state = _State(
    step=jnp.int32(0),
    cache=jax.tree.map(partial(_roomy, decoding), cache),
    # A row without a prompt only fills the batch.
    alive=lengths > 0,
    tokens=jnp.zeros(new, jnp.int32),
    logps=jnp.zeros(new, logits.dtype),
  )

  def going(state):
    return (state.step < decoding.max_new) & state.alive.any()

  def forward(state):
    cache, logits = _decode(model, params, state, lengths, prompt)
    state = state._replace(cache=cache)
    return _choose(decoding, state, logits, key)

  first = _choose(decoding, state, logits, key)
  last = jax.lax.while_loop(going, forward, first)
  return last.tokens, last.logps


def _prefill(model, params, batch):
  """All prompts at once: their cache, and what predicts the first token."""
  tokens, lengths = batch['tokens'], batch['lengths']
  _, position, branch = rows.layout(lengths, batch.bucket)
  hidden, cache = model.apply(
    {'params': params},
    tokens,
    position,
    rows.mask(branch),
    models.features(model, params, batch),
    models.empty_cache(model.config, len(tokens)),
  )
  last = jnp.maximum(lengths[:, :1] - 1, 0)
  hidden = jnp.take_along_axis(hidden, last[..., None], axis=1)[:, 0]
  return cache, model.apply({'params': params}, hidden, method='logits')


def _roomy(decoding, x):
  """Keys or values of the prompts, for n answers each, with room for those."""
  x = jnp.repeat(x, decoding.n, axis=1)
  return jnp.pad(x, [(0, 0), (0, 0), (0, decoding.max_new), (0, 0), (0, 0)])


def _decode(model, params, state, lengths, prompt):
  """The newest token of every row through the model."""
  newest = state.step - 1
  tokens = jax.lax.dynamic_slice_in_dim(state.tokens, newest, 1, axis=1)
  slot = jnp.arange(state.cache.k.shape[2])[None]
  filled = (slot < lengths[:, None]) | (
    (slot >= prompt) & (slot < prompt + newest)
  )
  # The cache first, then the token itself.
  mask = jnp.pad(filled, [(0, 0), (0, 1)], constant_values=True)[:, None, None]
  hidden, own = model.apply(
    {'params': params},
    tokens,
    (lengths + newest)[:, None],
    mask,
    None,
    state.cache,
  )
  at = (0, 0, prompt + newest, 0, 0)
  cache = jax.tree.map(
    lambda x, y: jax.lax.dynamic_update_slice(x, y, at), state.cache, own
  )
  return cache, model.apply({'params': params}, hidden[:, 0], method='logits')


def _choose(decoding, state, logits, key):
  """The next token of every row that goes on, and its log-probability."""
  if decoding.temperature == 0:
    token = logits.argmax(-1)
  else:
    key = jax.random.fold_in(key, state.step)
    token = jax.random.categorical(key, likely(logits, decoding))
  token = token.astype(jnp.int32)
  logp = models.logps_from_logits(logits, token)
  stops = jnp.array(decoding.stop, jnp.int32)
  ended = (token[:, None] == stops[None]).any(-1)

  def put(x, new):
    new = jnp.where(state.alive, new, 0)[:, None]
    return jax.lax.dynamic_update_slice_in_dim(x, new, state.step, axis=1)

  return state._replace(
    step=state.step + 1,
    alive=state.alive & ~ended,
    tokens=put(state.tokens, token),
    logps=put(state.logps, logp),
  )


def likely(logits: jax.Array, decoding: Decoding) -> jax.Array:
  """Logits [B,V] over temperature, -inf outside top_k, then outside top_p."""
  logits = logits / decoding.temperature
  if 0 < decoding.top_k < logits.shape[-1]:
    worst = jax.lax.top_k(logits, decoding.top_k)[0][:, -1:]
    logits = jnp.where(logits < worst, -jnp.inf, logits)
  if decoding.top_p < 1:
    down = jnp.sort(logits, axis=-1, descending=True)
    p = jax.nn.softmax(down, axis=-1)
    # A token is in if those before it do not make up top_p yet.
    inside = jnp.cumsum(p, axis=-1) - p < decoding.top_p
    worst = jnp.where(inside, down, jnp.inf).min(-1, keepdims=True)
    logits = jnp.where(logits < worst, -jnp.inf, logits)
  return logits
