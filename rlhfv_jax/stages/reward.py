"""The reward model: the base model, with a head, learns from rankings.

reward/         as the config says
reward-NAME/    the same otherwise: without facts, as the ablation
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rlhfv_jax import files, hosts, models, reward, sharding
from rlhfv_jax.benchmarks import intervals
from rlhfv_jax.data import judgement as judging
from rlhfv_jax.data.judgement import Judgement
from rlhfv_jax.objectives.reward import reward_loss
from rlhfv_jax.playroom.decided import decided
from rlhfv_jax.report import rewards
from rlhfv_jax.stages import practice, problem, provenance, rankings, tally
from rlhfv_jax.stages.problem import Data, Setup
from rlhfv_jax.train import adapt, session

NAME = 'reward'
HEAD = ('score_head/.*', 'trained')


def versions(s: Setup) -> dict[str, tuple[Setup, Path]]:
  """By name: the reward model and its arms, what is changed and where it is."""
  found = {NAME: (s, s.folder / NAME)}
  for name, changes in s.config.reward.arms.items():
    config = problem.overridden(s.config, {'reward': changes})
    found[name] = s._replace(config=config), s.folder / f'{NAME}-{name}'
  return found


def train(s: Setup) -> None:
  if not s.config.reward.init:
    for name, (version, folder) in versions(s).items():
      learn(version, folder, name)


def learn(s: Setup, folder: Path, name: str) -> None:
  """params/ in `folder`: a model that scores the better answer higher."""
  if hosts.there(folder / 'done.json'):
    return
  begin = start(s)
  c = problem.overridden(s.config.reward.train, {'rules': begin.rules})
  pairs = data(s, 'train', folder)
  dev = data(s, 'dev', folder, like=pairs)
  if begin.rank:
    adapt.note(folder, problem.base(s), begin)
  params = begun(s, begin)
  session.run(
    session.program(loss(s.model), params, c, s.mesh), params,
    problem.feed(s, pairs, c, read=True),
    hyper={'centring': s.config.reward.centring}, config=c,
    held_out=problem.held_out(s, dev, c.batch, read=True),
    folder=folder, name=name, mesh=s.mesh,
  )  # fmt: skip


def begun(s: Setup, begin: adapt.Start) -> Any:
  """What it begins from: the base and a new head, or both after practice."""
  if practice.wanted(s):
    return adapt.base(s.folder / 'practice/params', like(s), begin, s.mesh)
  return adapt.begin(problem.base(s), like(s), begin, s.mesh)


def loss(model: Any) -> Callable:
  """Bradley-Terry; a row of filler has no tokens and counts nothing."""

  def run(params, batch, hyper):
    scores = models.scores(model, params, batch)
    real = batch['lengths'][:, 0] > 0
    return reward_loss(scores, real, centring=hyper['centring'])

  return run


def start(s: Setup) -> adapt.Start:
  """As of a policy, with the head trained too."""
  c, lora = s.config.reward.train, s.config.lora
  if not lora.rank:
    return adapt.Start(c.frozen_dtype, c.rules, s.config.seed)
  return adapt.Start(
    lora.base, (HEAD, *lora.rules), s.config.seed, lora.rank, lora.alpha,
    lora.targets,
  )  # fmt: skip


def like(s: Setup) -> Any:
  """The shapes of a model that scores."""
  head = jax.eval_shape(lambda: models.score_head(s.model))
  places = sharding.specs(head, s.mesh)
  return problem.abstract_params(s) | jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    head, places,
  )  # fmt: skip


def judgement(s: Setup) -> Judgement:
  c = s.config.reward
  return judging.of(
    c.prompt.to_dict(), problem.template(s), facts=c.facts, seed=s.config.seed
  )


def data(
  s: Setup, split: str, folder: Path, *, like: Data | None = None
) -> Data:
  """Ranked pairs with what asks for a judgement after each answer."""
  return problem.read(
    s, rankings.told(s, split),
    name=(folder / split).relative_to(s.folder).as_posix(),
    buckets=like and like.buckets, shapes=s.config.data.buckets,
    suffix=judgement(s), brought=bool(s.config.rankings.source),
  )  # fmt: skip


def weights(s: Setup) -> Any:
  """The run's own reward model, adapters beside what they are on."""
  return adapt.load(s.folder / NAME / 'params', like(s), s.mesh)


def scorer(s: Setup) -> reward.Scorer:
  """The run's reward model, or the one that config.reward.init names."""
  c = s.config.reward
  if c.init:
    asks = c.prompt.to_dict() | {'facts': c.facts}
    return reward.load(Path(c.init), s.mesh, asks=asks, batch=c.batch)
  return reward.scorer(
    s.model, weights(s), tokenizer=s.tokenizer, template=problem.template(s),
    judgement=judgement(s), image_size=s.config.image.size,
    image_policy=s.config.image.policy, batch=c.batch, mesh=s.mesh,
  )  # fmt: skip


def measure(s: Setup) -> None:
  """results.json: who is right about held-out pairs, and how sure of it."""
  path = s.folder / 'results.json'
  if hosts.there(path):
    return
  found = {
    label(version.config): scores(version, folder)
    for version, folder in reversed(list(versions(s).values()))
  }
  if hosts.leader():
    files.write_json(path, {
      'run': provenance.ran(s.config), 'prompt': s.config.chat.template,
      'judge': 'who ranked the pairs',
      'rows': tally.used(s.folder), 'rows not used': tally.left_out(s.folder),
      'models': found,
    })  # fmt: skip
  hosts.meet()


def label(config: ConfigDict) -> str:
  return 'facts' if config.reward.facts else 'no facts'


def scores(s: Setup, folder: Path) -> dict[str, Any]:
  """Metrics over the test pairs; each pair's scores are in judged.jsonl."""
  held = data(s, 'test', folder, like=data(s, 'train', folder))
  params = adapt.load(folder / 'params', like(s), s.mesh)
  rows = []
  for index, told in reward.batches(
    reward.program(s.model), params, held.rows, held.images,
    buckets=held.buckets, batch=s.config.reward.batch, mesh=s.mesh,
  ):  # fmt: skip
    for i, (chosen, rejected) in zip(index, told.tolist(), strict=True):
      one = held.source[int(i)]
      known = decided(one.facts, *one.answers)
      rows.append({'id': one.id, 'chosen': chosen, 'rejected': rejected,
                   'decided': known})  # fmt: skip
  if hosts.leader():
    files.write_lines(folder / rewards.FILE, rows)
  right = np.array([row['chosen'] > row['rejected'] for row in rows])
  known = np.array([row['decided'] for row in rows], bool)
  off = rewards.calibration_error(rows)
  return {
    'accuracy': intervals.rate(right),
    'accuracy/facts decide': intervals.rate(right[known]),
    'accuracy/no fact decides': intervals.rate(right[~known]),
    'calibration': {'value': off, 'n': len(rows)},
  }
