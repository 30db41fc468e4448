"""PPO on answers: rewards of tokens, advantages, and the clipped losses.

Arrays are [B,L], every number at the token it concerns; `mask` says which
tokens the policy wrote. The value of a token is what was expected before it
came. What is not masked in may hold anything and counts nowhere.
"""

import jax
import jax.numpy as jnp

from rlhfv_jax.metrics import Mean


def k1(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """log p/r: true on average, of either sign at a token."""
  return _wide(logps) - _wide(ref_logps)


def k2(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """(log p/r)^2 / 2: never negative, a little off."""
  return 0.5 * k1(logps, ref_logps) ** 2


def k3(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """r/p - 1 - log r/p: never negative, and true on average."""
  gap = k1(ref_logps, logps)
  return jnp.expm1(gap) - gap


# Estimators of the KL divergence from what was sampled, a number a token, as
# named in joschu.net/blog/kl-approx.html.
KL = {'k1': k1, 'k2': k2, 'k3': k3}


def adapted(
  beta: float, kl: float, *, target: float, rate: float = 0.1
) -> float:
  """The next KL coefficient (arXiv 1909.08593 sec. 2.2); rate 0 keeps it.

  `kl` is that of a whole answer, on average.
  """
  error = min(max(kl / target - 1, -0.2), 0.2)
  return beta * (1 + rate * error)


def rewards(
  scores: jax.Array, kl: jax.Array, mask: jax.Array, *, beta: float
) -> jax.Array:
  """[B], [B,L] -> [B,L]: -beta KL at each token, the score at the last one.

  As in arXiv 2009.01325 sec. 3.4. An answer without tokens has none.
  """
  ahead = jnp.flip(jnp.cumsum(jnp.flip(mask, 1), axis=1), 1)
  last = mask & (ahead == 1)
  scores = _wide(scores)[:, None]
  return jnp.where(mask, -beta * _wide(kl), 0) + jnp.where(last, scores, 0)


def advantages(
  rewards: jax.Array,
  values: jax.Array,
  mask: jax.Array,
  *,
  gamma: float,
  lam: float,
) -> tuple[jax.Array, jax.Array]:
  """GAE (arXiv 1506.02438 eq. 16): advantages, and returns A + V.

  One scan from the last token to the first; what lies between two tokens of an
  answer is stepped over, and after its last token nothing is expected.
  """
  rewards, values = _wide(rewards), _wide(values)

  def step(ahead, token):
    value_next, advantage_next = ahead
    reward, value, counts = token
    delta = reward + gamma * value_next - value
    advantage = delta + gamma * lam * advantage_next
    here = (value, advantage)
    pick = lambda new, old: jnp.where(counts, new, old)
    return jax.tree.map(pick, here, ahead), jnp.where(counts, advantage, 0)

  nothing = jnp.zeros(rewards.shape[0], jnp.result_type(rewards, values))
  tokens = jax.tree.map(jnp.transpose, (rewards, values, mask))
  _, found = jax.lax.scan(step, (nothing, nothing), tokens, reverse=True)
  found = found.T
  return found, jnp.where(mask, found + values, 0)


def whiten(x: jax.Array, mask: jax.Array, *, eps: float = 1e-8) -> jax.Array:
  """(x - mean) / (deviation + eps) over what is masked in; 0 elsewhere."""
  x = _wide(x)
  mean = Mean.of(x, where=mask).value()
  apart = jnp.where(mask, x - mean, 0)
  deviation = jnp.sqrt(Mean.of(apart**2, where=mask).value())
  return apart / (deviation + eps)


def policy_loss(
  logps: jax.Array,
  old_logps: jax.Array,
  advantages: jax.Array,
  mask: jax.Array,
  *,
  clip: float,
) -> dict[str, Mean]:
  """-min(A ratio, A clip(ratio)) (arXiv 1707.06347 eq. 7), a mean of tokens."""
  moved = jnp.where(mask, k1(logps, old_logps), 0)
  ratio, gain = jnp.exp(moved), _wide(advantages)
  free, held = -gain * ratio, -gain * jnp.clip(ratio, 1 - clip, 1 + clip)
  means = {
    'ppo/policy/loss': jnp.maximum(free, held),
    'ppo/policy/clipfrac': (held > free).astype(ratio.dtype),
    'ppo/policy/approx_kl': 0.5 * moved**2,
    'ppo/policy/ratio': ratio,
  }
  return {name: Mean.of(x, where=mask) for name, x in means.items()}


def value_loss(
  values: jax.Array,
  old_values: jax.Array,
  returns: jax.Array,
  mask: jax.Array,
  *,
  clip: float,
) -> dict[str, Mean]:
  """Half the squared error, of the value or of one held near the old one.

  The worse of both counts, as for the policy; a large `clip` holds nothing.
  """
  # What is not masked in may hold anything, even a NaN.
  values, old_values, returns = (
    jnp.where(mask, _wide(x), 0) for x in (values, old_values, returns)
  )
  near = old_values + jnp.clip(values - old_values, -clip, clip)
  free, held = (values - returns) ** 2, (near - returns) ** 2
  means = {
    'val/loss': 0.5 * jnp.maximum(free, held),
    'val/clipfrac': (held > free).astype(values.dtype),
    'val/error': free,
  }
  return {name: Mean.of(x, where=mask) for name, x in means.items()}


def total(
  policy: dict[str, Mean], value: dict[str, Mean], *, value_coef: float
) -> dict[str, Mean]:
  """Both losses as one number to minimise; they are over the same tokens."""
  loss, error = policy['ppo/policy/loss'], value['val/loss']
  both = Mean(loss.total + value_coef * error.total, loss.count)
  return {'loss': both} | policy | value


def _wide(x: jax.Array) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
