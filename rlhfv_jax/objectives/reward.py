"""A reward from rankings: the better answer of a pair scores higher.

Answer 0 is the chosen one, answer 1 the rejected one.
"""

import jax
import jax.numpy as jnp

from rlhfv_jax.metrics import Mean


def reward_loss(
  scores: jax.Array, valid: jax.Array | None = None, *, centring: float
) -> dict[str, Mean]:
  """Bradley-Terry (LLaVA-RLHF, arXiv 2309.14525 eq. 2) over scores [B,2].

  A ranking says nothing of where zero is: `centring` times (r_0 + r_1)^2 keeps
  scores around it. Pairs count where valid [B] holds; the others may score
  anything, even a NaN.
  """
  scores, valid = _pairs(scores, valid)
  means = _ranked(scores, valid)
  centre = Mean.of(scores.sum(axis=1) ** 2, where=valid)
  loss = means['loss/ranking']
  total = loss.total + centring * centre.total
  return {'loss': Mean(total, loss.count), 'loss/centring': centre} | means


def reward_loss_original(
  scores: jax.Array, valid: jax.Array | None = None, *, centring: float
) -> dict[str, Mean]:
  """The same with the released code's term, |mean over pairs of (r_0 + r_1)|.

  The absolute value is taken of a whole batch, so micro-batches do not add up.
  """
  scores, valid = _pairs(scores, valid)
  means = _ranked(scores, valid)
  loss = means['loss/ranking']
  off = jnp.abs(Mean.of(scores.sum(axis=1), where=valid).value())
  centre = Mean(off * loss.count, loss.count)
  total = loss.total + centring * centre.total
  return {'loss': Mean(total, loss.count), 'loss/centring': centre} | means


def _pairs(scores, valid) -> tuple[jax.Array, jax.Array]:
  if scores.ndim != 2 or scores.shape[1] != 2:
    raise ValueError(
      f'a ranking is of 2 answers, scores are {scores.shape}: give [B,2], the '
      'chosen answer first'
    )
  scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
  if valid is None:
    valid = jnp.ones(len(scores), bool)
  return jnp.where(valid[:, None], scores, 0), valid


def _ranked(scores, valid) -> dict[str, Mean]:
  margin = scores[:, 0] - scores[:, 1]
  told = {
    'loss/ranking': -jax.nn.log_sigmoid(margin),
    'rewards/chosen': scores[:, 0],
    'rewards/rejected': scores[:, 1],
    'rewards/margins': margin,
    'rewards/accuracies': (margin > 0).astype(margin.dtype),
  }
  return {name: Mean.of(x, where=valid) for name, x in told.items()}
