"""Judging: who says what an answer of the policy is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from rlhfv_jax import reward
from rlhfv_jax.data import views
from rlhfv_jax.data.example import Example
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.prompts import worth
from rlhfv_jax.playroom.truth import left_out, unsupported
from rlhfv_jax.rollout import symbolic
from rlhfv_jax.stages import problem
from rlhfv_jax.stages import reward as models
from rlhfv_jax.stages.problem import Setup
from rlhfv_jax.train import adapt


def judge(s: Setup, source: Sequence[Example]) -> reward.Scorer:
  """A reward model of the run by its name, or the truth of the playroom."""
  c = s.config
  if c.ppo.judge == 'truth' and not c.ppo.prompts:
    return truth(s, source)
  if c.reward.init or c.ppo.judge == models.NAME:
    return models.scorer(s)
  known = models.versions(s)
  if c.ppo.judge not in known:
    raise ValueError(
      f'config.ppo.judge = {c.ppo.judge!r}: a reward model of this run, '
      f"{', '.join(known)}, or 'truth', which only the playroom's prompts have"
    )
  _, folder = known[c.ppo.judge]
  return reward.load(folder, s.mesh, batch=c.reward.batch)


def weights(s: Setup) -> Any:
  """What the value starts from: the reward model that judges."""
  c = s.config
  if c.reward.init or c.ppo.judge not in models.versions(s):
    raise ValueError(
      "config.ppo.value = 'reward' starts from a reward model of this run, on "
      f"the policy's own base; with config.ppo.judge = {c.ppo.judge!r} and "
      f"config.reward.init = {c.reward.init!r} say config.ppo.value = 'base'"
    )
  _, folder = models.versions(s)[c.ppo.judge]
  return adapt.load(folder / 'params', models.like(s), s.mesh)


def truth(s: Setup, source: Sequence[Example]) -> reward.Scorer:
  """What answers are worth to somebody who knows the scenes."""
  world = problem.world(s)
  bar = tqdm(source, desc='know prompts', unit='row', dynamic_ncols=True)
  scenes = {views.digest(one.image): one.id for one in bar}

  def score(images, questions, answers, facts):
    known = [scenes[views.digest(image)] for image in images]
    return np.array([
      worth(dataset.scene_of(id, world), text)
      for id, text in zip(known, answers, strict=True)
    ], np.float32)  # fmt: skip

  return score


def examine(
  s: Setup,
) -> Callable[[Sequence[Example], Sequence[str]], dict[str, float]]:
  """What the truth says of a rollout, for the log alone.

  Of somebody's own prompts nothing is known.
  """
  world = problem.world(s)

  def look(asked, texts):
    if s.config.ppo.prompts:
      return {}
    wrong, told, there, right = [], 0, 0, []
    for one, text in zip(asked, texts, strict=True):
      if 'answer' in one.extra:
        right.append(symbolic.sound(one.extra, text))
        continue
      scene = dataset.scene_of(one.id, world)
      wrong.append(bool(unsupported(scene, text)))
      there += len(scene.groups)
      told += len(scene.groups) - len(left_out(scene, text))
    found = {}
    if wrong:
      found |= {'answers/hallucination': float(np.mean(wrong)),
                'answers/coverage': told / there}  # fmt: skip
    return found | ({'answers/right': float(np.mean(right))} if right else {})

  return look
