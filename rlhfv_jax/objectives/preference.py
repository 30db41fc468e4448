"""Preference over corrected segments: dense DPO, with DPO as gamma = 1.

Answer 0 is the chosen one, answer 1 the rejected one. roles[b, c, t] says what
token t is in answer c of row b: 0 not scored, 1 unchanged, 2 corrected.
"""

import jax
import jax.numpy as jnp

from rlhfv_jax.metrics import Mean


def segment_score(
  logps: jax.Array, roles: jax.Array, *, gamma: float, normalize: bool
) -> jax.Array:
  """[B,L], [B,C,L] -> [B,C]: log-probs in which a corrected token counts gamma.

  RLHF-V (arXiv 2312.00849) eq. 5; without `normalize` its numerator alone. An
  answer without scored tokens scores 0.
  """
  return _terms(logps, roles, gamma, normalize).sum(axis=-1)


def preference_loss(
  logps: jax.Array,
  ref_logps: jax.Array,
  roles: jax.Array,
  *,
  beta: float,
  gamma: float,
  normalize: bool,
  label_smoothing: float = 0.0,
  sft_weight: float = 0.0,
  dpo_weight: float = 1.0,
) -> dict[str, Mean]:
  """DPO (arXiv 2305.18290 eq. 7) between the scores of RLHF-V's eq. 5.

  The reward of an answer is beta times how far its score is from the
  reference's; the margin between two rewards is also given by the tokens that
  make it, and the parts add up. Log-probs of zero for the reference make the
  loss reference-free. `label_smoothing` is the share of pairs taken to be the
  wrong way round; 'loss/dpo' is the loss without the likelihood term. Means
  are over pairs: rows in which both answers are scored.
  """
  if roles.shape[1] != 2:
    raise ValueError(
      f'a preference is between 2 answers, roles has {roles.shape[1]}: '
      'give roles[B,2,L], the chosen answer first'
    )
  score = segment_score(logps, roles, gamma=gamma, normalize=normalize)
  # A score is linear in the log-probs: the difference first, for precision.
  moved = _wide(logps) - _wide(ref_logps)
  reward = beta * _terms(moved, roles, gamma, normalize)
  by_role = [
    jnp.where(roles == role, reward, 0).sum(axis=-1) for role in (1, 2)
  ]
  unchanged, corrected = (r[:, 0] - r[:, 1] for r in by_role)
  rewards = reward.sum(axis=-1)
  margin = rewards[:, 0] - rewards[:, 1]
  right, wrong = jax.nn.log_sigmoid(margin), jax.nn.log_sigmoid(-margin)
  dpo = -(1 - label_smoothing) * right - label_smoothing * wrong
  means = {
    'loss': dpo_weight * dpo - sft_weight * score[:, 0],
    'loss/dpo': dpo,
    'rewards/chosen': rewards[:, 0],
    'rewards/rejected': rewards[:, 1],
    'rewards/margins': margin,
    'rewards/margins_corrected': corrected,
    'rewards/margins_unchanged': unchanged,
    'rewards/accuracies': (margin > 0).astype(margin.dtype),
    'logps/chosen': score[:, 0],
    'logps/rejected': score[:, 1],
  }
  pair = (roles > 0).any(axis=-1).all(axis=-1)
  return {name: Mean.of(x, where=pair) for name, x in means.items()}


def token_weights(
  roles: jax.Array, *, gamma: float, normalize: bool, dtype=jnp.float32
) -> jax.Array:
  """[B,C,L]: what a token counts in its answer's score (eq. 5)."""
  weights = jnp.where(roles == 2, gamma, roles == 1).astype(dtype)
  if not normalize:
    return weights
  total = weights.sum(axis=-1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1)


def _terms(logps, roles, gamma, normalize) -> jax.Array:
  """[B,C,L]: what each token adds to its answer's score."""
  logps = _wide(logps)[:, None]
  weights = token_weights(
    roles, gamma=gamma, normalize=normalize, dtype=logps.dtype
  )
  # What is not scored may hold anything, even a NaN.
  return weights * jnp.where(roles > 0, logps, 0)


def _wide(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
