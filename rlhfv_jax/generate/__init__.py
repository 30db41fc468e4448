"""Answers to a batch of prompts: one prefill, then a token at a time."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from rlhfv_jax import batch as rows
from rlhfv_jax import models
from rlhfv_jax.generate import beams, slots
from rlhfv_jax.generate.decoding import Decoding as Decoding
from rlhfv_jax.generate.decoding import likely as likely


def generate(
  model: models.VLM,
  params: Mapping[str, Any] | models.Weights,
  batch: Mapping[str, jax.Array],
  decoding: Decoding,
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Prompts of a batch -> tokens i32 and logps f32, both [B*n, max_new].

  The n answers of a prompt are neighbours. Tokens end with the stop token, then
  0; logps are those of the untempered distribution, 0 after the stop. Prompts
  that are told apart by `index` draw from it, others from their place. Who
  calls often with the same parameters splits them once: `models.split`.
  """
  bucket = check(model, batch, decoding)
  # Whatever else the batch carries must not cost a compilation.
  names = ('tokens', 'lengths', 'images', 'features', 'index')
  batch = rows.Batch({k: batch[k] for k in names if k in batch}, bucket)
  if not isinstance(params, models.Weights):
    params = models.split(model, params)
  return _generate(model, decoding, params, batch, key)


def check(
  model: models.VLM, batch: Mapping[str, jax.Array], decoding: Decoding
) -> rows.Bucket:
  """The bucket of the prompts, if the answers fit behind them."""
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
  return bucket


@partial(jax.jit, static_argnums=(0, 1))
def _generate(model, decoding, weights, batch, key):
  if decoding.beams > 1:
    return beams.search(model, weights, batch, decoding, key)
  state, logits = slots.begin(
    model, weights, batch, decoding, key, each=decoding.n
  )

  def further(state):
    state, logits = slots.tick(model, weights, state, together=True)
    return slots.write(state, logits, decoding)

  state = jax.lax.while_loop(
    lambda state: state.alive.any(),
    further,
    slots.write(state, logits, decoding),
  )
  return state.tokens, state.logps
