"""From a batch to the log-probability of every token that counts.

Only tokens that count reach the LM head, and only a few of each row at a time:
an array [*, L, V] never exists, forward or backward.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax import sharding
from rlhfv_jax.models import fetch, layers, sight
from rlhfv_jax.models.vlm import VLM

Params = Mapping[str, Any]

AT_ONCE = 512  # tokens that make a product of the head worth its while


def logps_from_logits(logits: jax.Array, ids: jax.Array) -> jax.Array:
  """log softmax(logits)[ids], [..., V] and [...] -> [...], at least float32.

  Aligned: logits[t] is what predicts ids[t]. A negative id is read as 0.
  """
  logits = layers.upcast(logits)
  ids = jnp.maximum(ids, 0)[..., None]
  chosen = jnp.take_along_axis(logits, ids, axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def features(
  model: VLM, params: Params, batch: Mapping[str, jax.Array]
) -> jax.Array | None:
  """What the decoder sees: given, encoded here, or nothing."""
  if 'features' in batch:
    return batch['features']
  if 'seen' in batch:
    return model.apply({'params': params}, batch['seen'], method='connect')
  if model.config.vision is None or 'images' not in batch:
    return None
  return model.apply({'params': params}, batch['images'], method='encode')


def hidden(
  model: VLM, params: Params, batch: Mapping[str, jax.Array]
) -> jax.Array:
  """The decoder's last hidden states [B,L,D] over a batch of trunks."""
  bucket, limit = rows.bucket_of(batch), model.config.text.max_length
  if bucket.trunk + bucket.branch > limit:
    raise ValueError(
      f'bucket {tuple(bucket)} reaches position {bucket.trunk + bucket.branch},'
      f' but text.max_length is {limit}: take shorter buckets or raise it'
    )
  _, position, branch = rows.layout(batch['lengths'], bucket)
  seen = features(model, params, batch)
  mask = sight.of(branch, bucket, model.config.attention)
  x = {'params': params}
  return model.apply(x, batch['tokens'], position, mask, seen)


def token_logps(
  model: VLM,
  params: Params,
  batch: Mapping[str, jax.Array],
  *,
  chunk: int | None = None,
) -> jax.Array:
  """f32[B,L]: log p of each scored token given its path, 0 for the others.

  Scored are tokens with a role in any answer, without `roles` every word. The
  head sees `chunk` tokens of each row at a time, 32 by default; more of few
  rows, since each chunk also costs an addition to the gradient of its kernel.
  """
  states = hidden(model, params, batch)
  return logps_of_hidden(model, params, batch, states=states, chunk=chunk)


def logps_of_hidden(
  model: VLM,
  params: Params,
  batch: Mapping[str, jax.Array],
  *,
  states: jax.Array,
  chunk: int | None = None,
) -> jax.Array:
  """`token_logps` where the hidden states are there already."""
  tokens = batch['tokens']
  parent, _, branch = rows.layout(batch['lengths'], rows.bucket_of(batch))
  counts = _counts(model, batch, parent, branch)
  # Tokens that count come first in each row, so that later chunks are empty.
  order = _first(counts)
  among = jnp.arange(counts.shape[1])[None] < counts.sum(1, keepdims=True)
  place = jnp.cumsum(counts, axis=1) - 1
  states = fetch.rows(
    _before(states, parent, batch['lengths'][:, :1]),
    order,
    jnp.where(counts, place, counts.shape[1]),
  )
  ids = jnp.take_along_axis(tokens, order, axis=1)
  chunk = chunk or max(32, AT_ONCE // len(tokens))
  front = _head_in_chunks(model, params, states, ids, among, chunk)
  front = jnp.take_along_axis(front, jnp.maximum(place, 0), axis=1)
  return jnp.where(counts, front, 0)


def _before(states, parent, trunk):
  """[B,L,D]: to each token the state of its parent.

  That is its neighbour, or to a branch's first token the last of the trunk.
  """
  slot = jnp.arange(parent.shape[1])[None]
  last = jnp.where((slot == trunk - 1)[..., None], states, 0)
  neighbour = jnp.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0)))
  near = (parent == slot - 1)[..., None]
  return jnp.where(near, neighbour, last.sum(1, keepdims=True))


def _first(counts):
  """i32[B,L]: the slots that count, in their order; then any.

  The k-th has k others before it: no sort, which TPUs are slow at.
  """
  before = jnp.cumsum(counts, axis=1)[:, None]
  slot = jnp.arange(counts.shape[1])[None, :, None]
  return jnp.minimum((before <= slot).sum(-1), counts.shape[1] - 1)


def _counts(model, batch, parent, branch):
  """Who is scored. The first token of a row has nothing to predict it."""
  if 'roles' in batch:
    scored = rows.scored(batch['roles'])
  else:
    placeholder = model.config.image_token
    scored = batch['tokens'] != (-1 if placeholder is None else placeholder)
  return scored & (branch >= 0) & (parent >= 0)


def _head_in_chunks(model, params, states, ids, counts, chunk):
  """[B,L,D], [B,L] -> [B,L]: one scan, its logits made again going back."""
  batch, length = ids.shape
  size = min(chunk, -(-length // 2))
  number = -(-length // size)

  def chunks(x):
    spare = [(0, 0), (0, number * size - length)] + [(0, 0)] * (x.ndim - 2)
    x = jnp.pad(x, spare).reshape(batch, number, size, *x.shape[2:])
    return x.swapaxes(0, 1)

  def logps(states, ids):
    logits = model.apply({'params': params}, states, method='logits')
    return logps_from_logits(logits, ids)

  def nothing(states, ids):
    return jnp.zeros(ids.shape, layers.upcast(states).dtype)

  @jax.checkpoint
  def step(_, xs):
    states, ids, counts = map(sharding.by_rows, xs)
    ids = jnp.where(counts, ids, 0)
    return None, jax.lax.cond(counts.any(), logps, nothing, states, ids)

  xs = jax.tree.map(chunks, (states, ids, counts))
  _, out = jax.lax.scan(step, None, xs)
  return out.swapaxes(0, 1).reshape(batch, -1)[:, :length]
