"""Beam search: of each prompt the best few beginnings, until none can win.

As transformers searches by default: answers are ranked by their summed
log-probability over their length, and a search is over once its best beginning,
over its present length, is worse than all answers it has found.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax import models
from rlhfv_jax.generate import slots
from rlhfv_jax.generate.decoding import Decoding, endings, penalized, stops

NEVER = -1e9


class Found(NamedTuple):
  """The best answers so far, `beams` of each prompt, best first."""

  score: jax.Array  # f32[P,beams], NEVER where there is none
  tokens: jax.Array  # i32[P,beams,max_new]
  logps: jax.Array  # f32[P,beams,max_new]


def search(
  model: models.VLM,
  weights: models.Weights,
  batch: rows.Batch,
  decoding: Decoding,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """The n best answers of each prompt: tokens and logps, both [P*n,max_new]."""
  beams, new = decoding.beams, decoding.max_new
  state, logits = slots.begin(model, weights, batch, decoding, key, each=beams)
  prompts = len(state.alive) // beams
  found = Found(
    jnp.full((prompts, beams), NEVER),
    jnp.zeros((prompts, beams, new), jnp.int32),
    jnp.zeros((prompts, beams, new), logits.dtype),
  )
  # All beams are alike at first: one of them is enough.
  score = jnp.full((prompts, beams), NEVER).at[:, 0].set(0)

  def further(carry):
    state, score, found = carry
    state, logits = slots.tick(model, weights, state, together=True)
    return _step(state, score, found, logits, decoding)

  carry = _step(state, score, found, logits, decoding)
  state, score, found = jax.lax.while_loop(
    lambda carry: carry[0].alive.any(), further, carry
  )
  shape = (prompts * decoding.n, new)
  return tuple(x[:, : decoding.n].reshape(shape) for x in found[1:])


def _step(state, score, found, logits, decoding):
  """One more token for every beam, and what that finishes."""
  beams, size = decoding.beams, logits.shape[-1]
  prompts, new = len(logits) // beams, decoding.max_new
  by_prompt = lambda x: x.reshape(prompts, beams, *x.shape[1:])
  exact = jax.nn.log_softmax(logits)
  total = by_prompt(penalized(exact, state.seen, decoding)) + score[..., None]
  # Enough that all who end leave as many who do not.
  wide = max(2, 1 + endings(decoding)) * beams
  total = total.reshape(prompts, -1)
  score, picked = jax.lax.top_k(total, min(wide, total.shape[1]))
  parent = picked // size + jnp.arange(prompts)[:, None] * beams
  token = picked % size
  count = state.count.reshape(prompts, beams)[:, :1]  # all of a prompt alike
  going = state.alive.reshape(prompts, beams)[:, :1]
  ended = stops(token, state.stage[parent], decoding)[0] | (count + 1 >= new)

  at = jnp.arange(new)[None, None] == count[..., None]
  # Below 0 where it would round to it: 0 says that nothing is written.
  logp = jnp.minimum(exact[parent, token], -jnp.finfo(exact.dtype).tiny)
  longer = jnp.where(at, token[..., None], state.tokens[parent])
  logps = jnp.where(at, logp[..., None], state.logps[parent])
  over = ended & going & (jnp.arange(score.shape[1])[None] < beams)
  worth = jnp.where(over, score / (count + 1), NEVER)
  found = _best(Found(worth, longer, logps), found)

  score, picked = jax.lax.top_k(jnp.where(ended, NEVER, score), beams)
  pick = lambda x: jnp.take_along_axis(x, picked, axis=1).reshape(-1)
  parent, token, logp = pick(parent), pick(token), pick(logp)
  # The prompt's keys and values are the same for all of its beams.
  state = state._replace(
    new=jax.tree.map(lambda x: x[parent], state.new),
    seen=state.seen[parent],
    stage=state.stage[parent],
    tokens=state.tokens[parent],
    logps=state.logps[parent],
  )
  state = slots.put(state, token, logp, decoding)
  full = found.score.min(-1, keepdims=True)
  hope = (full == NEVER) | (score[:, :1] / (count + 1) > full)
  alive = jnp.repeat((going & hope & (count + 1 < new))[:, 0], beams)
  return state._replace(alive=alive), score, found


def _best(fresh, found):
  """Of the answers so far and the fresh ones as many as there were."""
  both = [jnp.concatenate(x, 1) for x in zip(found, fresh, strict=True)]
  score, picked = jax.lax.top_k(both[0], found.score.shape[1])
  pick = lambda x: jnp.take_along_axis(x, picked[..., None], axis=1)
  return Found(score, *map(pick, both[1:]))
