"""What sharing the trunk buys: the same pairs, each answer a row of its own.

The picture, the question and the common head then stand in both rows. `plain`
is the step that a trainer of language models takes with them: logits of every
token at once, and attention by a mask. No run takes either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from rlhfv_jax import batch as rows
from rlhfv_jax import models
from rlhfv_jax.batch import Bucket
from rlhfv_jax.objectives.preference import preference_loss
from rlhfv_jax.preflight import steps
from rlhfv_jax.stages import problem


def training(
  s: problem.Setup, bucket: Bucket, pairs: int, *, plain: bool = False
) -> steps.Built:
  """The step over as many pairs, in rows of one answer."""
  if plain:
    config = dataclasses.replace(s.model.config, attention='xla')
    s = s._replace(model=models.build(config))
  alone = Bucket(bucket.trunk + bucket.branch, 0, 1)
  many = pairs * bucket.answers
  return steps.training(s, alone, many, loss=loss(s, plain=plain))


def loss(s: problem.Setup, *, plain: bool) -> Callable:
  """The loss of the same pairs, whose two answers are neighbouring rows."""
  c = s.config.loss
  logps_of = _logps_of_all if plain else models.token_logps

  def of(params, batch, hyper):
    logps, ref_logps, roles = _joined(
      logps_of(s.model, params, batch), batch['ref_logps'], batch['roles']
    )
    return preference_loss(
      logps, ref_logps, roles, beta=hyper['beta'], gamma=hyper['gamma'],
      normalize=c.normalize, label_smoothing=c.label_smoothing,
      sft_weight=c.sft_weight, dpo_weight=c.dpo_weight,
    )  # fmt: skip

  return of


def _joined(logps, ref_logps, roles, answers: int = 2):
  """Neighbouring rows, an answer each -> one row of all their tokens."""
  end_to_end = lambda x: x.reshape(len(x) // answers, -1)
  own = jnp.eye(answers, dtype=roles.dtype)[None, :, :, None]
  roles = roles.reshape(-1, 1, answers, roles.shape[-1]) * own
  roles = roles.reshape(-1, answers, answers * roles.shape[-1])
  return end_to_end(logps), end_to_end(ref_logps), roles


def _logps_of_all(model, params, batch):
  """`models.token_logps` by way of the logits of every token."""
  states = models.hidden(model, params, batch)
  logits = model.apply({'params': params}, states, method='logits')
  tokens = batch['tokens']
  logps = models.logps_from_logits(logits[:, :-1], tokens[:, 1:])
  logps = jnp.pad(logps, ((0, 0), (1, 0)))
  return jnp.where(rows.scored(batch['roles']), logps, 0)
