"""The reward of an answer: a model's score and what is added to it.

LLaVA-RLHF (arXiv 2309.14525 sec. 2.3) adds a penalty for answers that do not
end, one for long ones, and a bonus for what a rule finds right.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from rlhfv_jax import hosts


@dataclasses.dataclass(frozen=True)
class Terms:
  """What each part weighs. 0 leaves it out."""

  model: float  # the reward model's score
  no_end: float  # an answer that never ended
  length: float  # an answer of the greatest length, times the prompt's own
  correct: float  # an answer that the rule finds right
  bias: float = 0.0

  def __post_init__(self):
    if not (self.model or self.no_end or self.length or self.correct):
      raise ValueError(
        'config.ppo.reward: every part weighs 0, so there is no reward to '
        'learn from: give model, no_end, length or correct a number'
      )


def parts(
  terms: Terms,
  scores: np.ndarray,
  *,
  ended: np.ndarray,
  share: np.ndarray,
  length_bonus: np.ndarray,
  correct: np.ndarray,
) -> dict[str, np.ndarray]:
  """f32[n] each: the parts of the rewards by name, and 'rewards', their sum.

  `share` is an answer's length in that of the longest there can be,
  `length_bonus` what the prompt says of long answers (1 usually).
  """
  made = {
    'model': terms.model * scores if terms.model else 0 * ended,
    'no_end': terms.no_end * ~ended,
    'length': terms.length * length_bonus * share,
    'correct': terms.correct * correct,
  }
  made = {name: part.astype(np.float32) for name, part in made.items()}
  return made | {'rewards': sum(made.values()) + np.float32(terms.bias)}


def judged(scores: np.ndarray, ids: Sequence[str]) -> np.ndarray:
  """bool[n]: whose score is a number. The others are named, and count nothing.

  An error where none is.
  """
  fine = np.isfinite(scores)
  if fine.all():
    return fine
  bad = [f'{ids[i]} ({scores[i]})' for i in np.flatnonzero(~fine)]
  told = ', '.join(bad[:5]) + (' ...' if len(bad) > 5 else '')
  if not fine.any():
    raise ValueError(
      f'no answer of {len(ids)} has a finite reward: {told}. See what the '
      'reward model said of them, above'
    )
  if hosts.leader():
    print(
      f'rewards of {len(bad)} of {len(ids)} answers are not finite, they count '
      f'nothing: {told}',
      file=sys.stderr,
    )
  return fine


def measure(scores: np.ndarray) -> tuple[float, float]:
  """Mean and deviation of the first scores: what a point of reward is."""
  some = scores[np.isfinite(scores)].astype(np.float64)
  return float(some.mean()), float(some.std()) or 1.0
