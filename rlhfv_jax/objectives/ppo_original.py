"""PPO as LLaVA-RLHF's released code has it: what it does, not what it should.

Every answer is padded to T tokens and every slot of [B,T] counts, words and
padding alike: there is no mask. Log-probs of padding are 0. What is different
from `ppo.py` is listed in docs/reproduction.md.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax.metrics import Mean
from rlhfv_jax.objectives import ppo

SCALE = 10.0  # of all rewards, where they are not whitened
PAD = 0
QUESTIONS = ('▁?', '?')  # Llama's two, after a space and after a word


def cut(
  tokens: np.ndarray, *, end: int, questions: Sequence[int]
) -> np.ndarray:
  """i32[B,T] -> the same, padding after the first end and after a question.

  A kind of question mark cuts at its first place; where an answer has several
  kinds the last of `questions` decides, though another may come before it.
  """
  place = np.arange(tokens.shape[1])[None]
  tokens = np.where(place > _first(tokens, end), PAD, tokens)
  at = np.full((len(tokens), 1), tokens.shape[1])
  for mark in questions:
    found = _first(tokens, mark)
    at = np.where(found < tokens.shape[1], found, at)
  return np.where(place > at, PAD, tokens).astype(np.int32)


def _first(tokens: np.ndarray, token: int) -> np.ndarray:
  """i32[B,1]: where a token is first; T where it is not."""
  found = tokens == token
  return np.where(found.any(1), found.argmax(1), tokens.shape[1])[:, None]


def kl(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """max(log p/r, 0): only what became likelier costs."""
  return jnp.maximum(_wide(logps) - _wide(ref_logps), 0)


def rewards(scores: jax.Array, kl: jax.Array, *, beta: float) -> jax.Array:
  """Ten times the usual, the score in the last slot, which may be padding."""
  at_tokens = -beta * _wide(kl)
  return SCALE * at_tokens.at[:, -1].add(_wide(scores))


def advantages(
  rewards: jax.Array, values: jax.Array, *, gamma: float, lam: float
) -> tuple[jax.Array, jax.Array]:
  """GAE over all T slots, and returns A + V."""
  return ppo.advantages(rewards, values, _all(values), gamma=gamma, lam=lam)


def whiten(x: jax.Array) -> jax.Array:
  """Over all slots of all answers."""
  return ppo.whiten(x, _all(x))


def policy_loss(
  logps: jax.Array, old_logps: jax.Array, advantages: jax.Array, *, clip: float
) -> dict[str, Mean]:
  """A mean over all slots, in most of which the ratio is 1 and stays so."""
  return ppo.policy_loss(logps, old_logps, advantages, _all(logps), clip=clip)


def value_loss(
  values: jax.Array, old_values: jax.Array, returns: jax.Array, *, clip: float
) -> dict[str, Mean]:
  """A mean over all slots: mostly of what padding is worth."""
  return ppo.value_loss(values, old_values, returns, _all(values), clip=clip)


def rate(update: jax.Array, *, updates: int, rise: int) -> jax.Array:
  """The share of the peak learning rate in the update of that number.

  From 0 in the first, which therefore learns nothing, up over `rise` updates,
  then a cosine to 0; the same in all steps of an update.
  """
  done = (update - rise) / max(1, updates - rise)
  falls = 0.5 * (1 + jnp.cos(jnp.pi * done))
  return jnp.where(update < rise, update / max(1, rise), falls)


def _all(x: jax.Array) -> jax.Array:
  return jnp.ones(jnp.shape(x), bool)


def _wide(x: jax.Array) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
