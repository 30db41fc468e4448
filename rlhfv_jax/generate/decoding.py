"""Decoding: how the next token is chosen from what the model says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How tokens are chosen. Temperature 0 is greedy; `n` answers a prompt.

  Above 0: of the `top_k` likeliest (0: all) the smallest set that holds
  `top_p` of the probability. With several `beams` the n best of a search. A
  `repetition_penalty` above 1 makes tokens of the prompt and of the answer less
  likely (arXiv 1909.05858). An answer ends with one of the ids in `stop`, or
  with a text in however many tokens: `spelled` is data.chat.stops'.
  """

  max_new: int
  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  beams: int = 1
  n: int = 1
  repetition_penalty: float = 1.0
  stop: tuple[int, ...] = ()
  spelled: tuple[tuple[int, ...], ...] = ()

  def __post_init__(self):
    object.__setattr__(self, 'stop', tuple(self.stop))
    for name, fine in (
      ('max_new', self.max_new >= 1),
      ('temperature', self.temperature >= 0),
      ('top_p', 0 < self.top_p <= 1),
      ('top_k', self.top_k >= 0),
      ('beams', self.beams >= 1),
      ('n', self.n >= 1),
      ('repetition_penalty', self.repetition_penalty > 0),
    ):
      if not fine:
        raise ValueError(f'decoding: {name} cannot be {getattr(self, name)}')
    if self.beams > 1 and (self.temperature > 0 or self.n > self.beams):
      raise ValueError(
        f'decoding: {self.beams} beams are searched at temperature 0 for at '
        f'most as many answers, not at {self.temperature} for {self.n}'
      )


def choose(
  logits: jax.Array, decoding: Decoding, *, keys: jax.Array, seen: jax.Array
) -> jax.Array:
  """The next token i32[B] of logits [B,V]; each row has a key of its own.

  seen bool[B,V] are the tokens a repetition penalty is for.
  """
  logits = penalized(logits, seen, decoding)
  if decoding.temperature == 0:
    return argmax(logits)
  size, dtype = logits.shape[-1:], logits.dtype
  noise = jax.vmap(lambda key: jax.random.gumbel(key, size, dtype))(keys)
  return argmax(likely(logits, decoding) + noise)


def penalized(
  scores: jax.Array, seen: jax.Array, decoding: Decoding
) -> jax.Array:
  """Scores nearer to minus infinity where the token was seen."""
  penalty = decoding.repetition_penalty
  if penalty == 1:
    return scores
  less = jnp.where(scores > 0, scores / penalty, scores * penalty)
  return jnp.where(seen, less, scores)


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


def argmax(x: jax.Array) -> jax.Array:
  """The first of the largest along the last axis.

  On a CPU two plain reductions take a twentieth of XLA's argmax.
  """
  size = x.shape[-1]
  number = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  best = jnp.where(x == x.max(-1, keepdims=True), number, size)
  return jnp.minimum(best.min(-1), size - 1)


def endings(decoding: Decoding) -> int:
  """How many tokens may end an answer."""
  last = {id for id, *stages in decoding.spelled if len(stages) in stages}
  return len(last.union(decoding.stop))


def stops(
  tokens: jax.Array, stage: jax.Array, decoding: Decoding
) -> tuple[jax.Array, jax.Array]:
  """Whether a token ends its answer; else, how much of an end is written."""
  found = jnp.zeros(tokens.shape, bool)
  for stop in decoding.stop:
    found |= tokens == stop
  if not decoding.spelled:
    return found, stage
  ids, *stages = np.array(decoding.spelled, np.int32).T
  known = tokens[..., None] == ids.reshape((1,) * tokens.ndim + (-1,))
  led = jnp.stack(stages)[stage, known.argmax(-1)]
  stage = jnp.where(known.any(-1), led, 0)
  return found | (stage == len(stages)), stage
