"""Rollouts: what PPO trains on. Answers are sampled, judged and weighed.

Arrays of a rollout are [N,...] on every process, a row an answer, all in one
bucket; numbers of a token stand at that token.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhfv_jax.batch import Batch
from rlhfv_jax.data.example import Example
from rlhfv_jax.objectives.ppo import KL
from rlhfv_jax.objectives.ppo_original import PAD
from rlhfv_jax.reward import Scorer
from rlhfv_jax.rollout import original, reward, sound, symbolic
from rlhfv_jax.rollout import prompts as asking
from rlhfv_jax.rollout.prompts import Prompts as Prompts
from rlhfv_jax.rollout.tell import numbers

FORMS: dict[str, ModuleType] = {'sound': sound, 'original': original}


@dataclasses.dataclass(frozen=True)
class Way:
  """How a rollout is made: numbers and names from the config."""

  size: int  # prompts, each answered once
  max_new: int  # tokens of the longest answer
  form: str
  kl: str  # which estimator
  gamma: float
  lam: float
  normalize: bool  # a point of reward is a deviation of the first scores
  rule: str  # of what is correct
  terms: reward.Terms
  seed: int
  ends: tuple[int, ...]  # tokens
  questions: tuple[int, ...] = ()

  def __post_init__(self):
    for name, known in (
      ('form', FORMS), ('kl', KL), ('rule', symbolic.RULES)
    ):  # fmt: skip
      if getattr(self, name) not in known:
        raise ValueError(
          f'config.ppo: {name} {getattr(self, name)!r} is none of '
          f'{", ".join(known)}'
        )


class Rollout(NamedTuple):
  arrays: dict[str, np.ndarray]  # what is trained on
  carried: dict[str, np.ndarray]  # from one rollout to the next
  numbers: dict[str, float]  # of the log
  answers: list[dict[str, Any]]  # to read


def nothing(way: Way, prompts: Prompts) -> dict[str, np.ndarray]:
  """The arrays of a rollout before there was one: its shapes."""
  rows, length = way.size, prompts.bucket.length
  names = ('old_logps', 'old_values', 'advantages', 'returns')
  return {
    'tokens': np.zeros((rows, length), np.int32),
    'lengths': np.zeros((rows, 2), np.int32),
    'roles': np.zeros((rows, 1, length), np.int8),
    'index': np.zeros(rows, np.int32),
  } | {name: np.zeros((rows, length), np.float32) for name in names}


def make(
  params: Any,
  number: int,
  carried: Mapping[str, np.ndarray],
  *,
  way: Way,
  prompts: Prompts,
  sample: Callable[[Any, np.ndarray, int], list[np.ndarray]],
  decode: Callable[[np.ndarray], str],
  judge: Scorer | None,
  score: Callable[[Any, dict], dict[str, np.ndarray]],
  examine: Callable[[list[Example], list[str]], dict[str, float]],
) -> Rollout:
  """Rollout `number` of the policy in `params`.

  `sample` gives an answer to each of some prompts, `judge` a score to each
  answer, `score` the log-probs of policy and reference and the values of rows;
  `examine` is told questions and answers and may say more of them.
  """
  form, clock = FORMS[way.form], _Clock()
  index = asking.drawn(prompts, number, size=way.size, seed=way.seed)
  asked = [prompts.source[int(i)] for i in index]
  said = form.finish(
    sample(params, index, number), size=way.max_new, ends=way.ends,
    questions=way.questions,
  )  # fmt: skip
  texts = [decode(answer) for answer in said]
  clock('generate')

  scores = np.zeros(way.size, np.float32)
  if judge is not None and way.terms.model:
    scores = np.asarray(judge(
      [one.image for one in asked], [one.turns[-1][1] for one in asked],
      texts, [one.facts for one in asked],
    ), np.float32)  # fmt: skip
  fine = reward.judged(scores, [one.id for one in asked])
  carried = dict(carried)
  if way.normalize and not carried['deviation']:
    carried['mean'], carried['deviation'] = reward.measure(scores)
  parts = _parts(way, carried, np.where(fine, scores, 0), asked, texts, said)
  clock('reward')

  arrays = asking.answered(prompts, index, said)
  arrays['roles'][~fine] = 0  # such a row counts nothing
  found = score(params, arrays)
  targets = jax.device_get(_targets(way)(
    arrays | found | {'scores': parts['rewards']}, carried['beta']
  ))  # fmt: skip
  arrays |= targets | {
    'old_logps': found['logps'], 'old_values': found['values']
  }  # fmt: skip
  clock('score')

  told = numbers(arrays | found, parts, texts, KL[way.kl], carried['beta'])
  told |= {
    'objective/scores': float(np.mean(scores[fine])),
    'objective/unjudged': float((~fine).sum()),
    'answers/ended': float(np.mean(_ended(way, said))),
  }
  answers = [
    {'id': one.id, 'question': one.turns[-1][1], 'answer': text}
    | {name: round(float(part[i]), 4) for name, part in parts.items()}
    for i, (one, text) in enumerate(zip(asked, texts, strict=True))
  ]
  told |= examine(asked, texts) | clock.seconds
  return Rollout(arrays, _arrays(carried), told, answers)


def begin(beta: float) -> dict[str, np.ndarray]:
  """What is carried into the first rollout."""
  return _arrays({'beta': beta, 'mean': 0.0, 'deviation': 0.0})


def batch(
  prompts: Prompts, arrays: Mapping[str, np.ndarray], rows: np.ndarray
) -> Batch:
  """Some rows of a rollout, with their pictures, as the steps take them."""
  some = {name: x[rows] for name, x in arrays.items()}
  return Batch(some | asking.shown(prompts, some['index']), prompts.bucket)


def _parts(way, carried, scores, asked, texts, said):
  extra = [one.extra for one in asked]
  rule = symbolic.RULES[way.rule]
  deviation = carried['deviation'] or 1.0
  return reward.parts(
    way.terms,
    (scores - carried['mean']) / deviation,
    ended=_ended(way, said),
    share=np.array([_words(way, one) for one in said]) / way.max_new,
    length_bonus=np.array([x.get('length_bonus', 1.0) for x in extra]),
    correct=np.array([rule(x, t) for x, t in zip(extra, texts, strict=True)]),
  )


def _ended(way, said) -> np.ndarray:
  return np.array([np.isin(one, way.ends).any() for one in said])


def _words(way, answer) -> int:
  """Tokens up to the end, or up to the padding of the original form."""
  return int((answer != PAD).sum())


@functools.cache
def _targets(way):
  form = functools.partial(
    FORMS[way.form].targets, gamma=way.gamma, lam=way.lam, kl=way.kl,
    size=way.max_new,
  )  # fmt: skip
  return jax.jit(lambda x, beta: form(x, beta=beta))


def _arrays(carried):
  return {name: np.array(x, np.float64) for name, x in carried.items()}


class _Clock:
  """Seconds that each part took."""

  def __init__(self):
    self.seconds, self._last = {}, time.perf_counter()

  def __call__(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds[f'time/{name}'] = now - self._last
    self._last = now
