"""PPO: the policy learns from the rewards of its own answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict
from tqdm import tqdm

from rlhfv_jax import files, hosts, models, optim, rollout, train
from rlhfv_jax.checkpoint import abstract, save_params
from rlhfv_jax.data import chat, sources
from rlhfv_jax.data.example import Example, from_dict
from rlhfv_jax.data.tokenizer import token_id
from rlhfv_jax.generate import Decoding
from rlhfv_jax.objectives import ppo_original
from rlhfv_jax.playroom import prompts as playroom
from rlhfv_jax.rollout import feed, reward, sample, telling, trees
from rlhfv_jax.rollout import prompts as asking
from rlhfv_jax.stages import judging, problem, tally
from rlhfv_jax.stages.problem import Setup
from rlhfv_jax.train import adapt, session

# Numbers of the losses that are arguments of the step.
TRACED = ('clip', 'value_clip', 'value_coef')


def learn(s: Setup, config: ConfigDict, folder: Path, name: str) -> None:
  """params/ in `folder`; what they came from is in ppo/ there."""
  if hosts.there(folder / 'done.json'):
    return
  s = s._replace(config=config)
  c, t, begin = config.ppo, config.train, problem.start(s)
  path = problem.base(s)
  way = manner(s)
  feed.check(way.size, t.batch, s.mesh)
  asked = prompts(s)
  judge = judging.judge(s, asked.source) if way.terms.model else None
  policy = adapt.begin(path, problem.abstract_params(s), begin, s.mesh)
  params = joined(s, policy, begin)
  kept = trees.copy(params['policy'])
  make = functools.partial(
    rollout.make, way=way, prompts=asked, judge=judge,
    decode=lambda ids: chat.decode(s.tokenizer, ids, problem.template(s)),
    sample=sample.sampler(
      s.model, asked,
      Decoding(
        way.max_new, temperature=c.temperature,
        **chat.stops(s.tokenizer, problem.template(s))._asdict(),
      ),
      slots=c.slots, key=jax.random.key(config.seed + 2), mesh=s.mesh,
    ),
    score=sample.scorer(
      s.model, kept, prompts=asked, batch=c.score_batch, mesh=s.mesh
    ),
    examine=judging.examine(s),
  )  # fmt: skip
  fed = feed.Rollouts(
    make, telling.teller(
      folder / 'ppo/rollouts', every=c.tell_every, samples=c.tell
    ),
    way=way, prompts=asked, batch=t.batch, epochs=c.epochs,
    beta=c.kl, kl_target=c.kl_target, kl_rate=c.kl_rate, mesh=s.mesh,
  )  # fmt: skip
  rules = trees.rules(begin.rules)
  found = session.run(
    program(s, way, params, rules, fed.steps), params, fed,
    hyper={name: c[name] for name in TRACED}, config=t, held_out=None,
    folder=folder / 'ppo', name=name, mesh=s.mesh,
  )  # fmt: skip
  learned = trees.policy(found)
  if begin.rank:
    adapt.note(folder, path, begin)
  kinds = optim.labels(learned, begin.rules)
  save_params(folder / 'params', adapt.saved(learned, kinds))
  files.write_json(folder / 'done.json', {'steps': t.steps})


def manner(s: Setup) -> rollout.Way:
  """How rollouts are made; question marks are those of the tokenizer."""
  c, ends = s.config.ppo, chat.stops(s.tokenizer, problem.template(s)).stop
  marks = [token_id(s.tokenizer, mark) for mark in ppo_original.QUESTIONS]
  return rollout.Way(
    size=c.rollout, max_new=c.max_new, form=c.form, kl=c.kl_estimator,
    gamma=c.gamma, lam=c.lam, normalize=c.normalize, rule=c.rule,
    terms=reward.Terms(**c.reward), seed=s.config.seed, ends=tuple(ends),
    questions=tuple(mark for mark in marks if mark is not None),
  )  # fmt: skip


def prompts(s: Setup) -> rollout.Prompts:
  """What is asked: the playroom's, or config.ppo.prompts."""
  c = s.config.ppo
  key = f'prompts {c.prompts} {c.count} {c.closed}'
  if key not in s.read:
    asked = source(s)
    made = asking.read(
      asked, s.tokenizer, problem.template(s), model=s.model,
      image_size=s.config.image.size, image_policy=s.config.image.policy,
      limit=c.max_prompt, max_new=c.max_new,
    )  # fmt: skip
    skip = s.config.data.skip or not c.prompts
    tally.reject(s.folder, 'ppo/prompts', made.rows, asked.where, skip=skip)
    tally.count(s.folder, 'ppo/prompts', made.rows, [made.bucket])
    s.read[key] = made
  return s.read[key]


def source(s: Setup) -> Sequence[Example]:
  c, path = s.config.ppo, s.folder / 'ppo/prompts.parquet'
  if c.prompts:
    return sources.open(c.prompts)
  with hosts.in_turn():
    if not path.exists():
      rows = playroom.prompts(
        problem.world(s), 'train', c.count, closed=c.closed, seed=s.config.seed
      )
      bar = tqdm(rows, desc='draw prompts', total=c.count, dynamic_ncols=True)
      sources.write(path, map(from_dict, bar))
  return sources.read(path)


def joined(s: Setup, policy: Any, begin: adapt.Start) -> dict[str, Any]:
  """Policy and value as one tree; the value's head is new, and zero."""
  c = s.config.ppo
  if c.value == 'base':
    like = problem.abstract_params(s)
    value = adapt.begin(problem.base(s), like, begin, s.mesh)
  elif c.value == 'reward':
    value = judging.weights(s)
  else:
    raise ValueError(f'config.ppo.value = {c.value!r}: reward or base')
  value = value | models.score_head(s.model)
  if c.shared:
    return trees.together(policy, value, begin.rules)
  return trees.apart(policy, value)


def program(
  s: Setup, way: rollout.Way, params: Any, rules: trees.Rules, steps: int
) -> session.Program:
  """The compiled step. The value's steps are `value_rate` as long."""
  c, t = s.config.ppo, s.config.train
  name = f'{t.to_json()} {rules} {c.shared} {c.value_rate} {way} {steps}'
  if name not in s.programs:
    like = abstract(params)
    labels = optim.labels(like, rules)
    tx = optax.chain(
      optim.optimizer(
        t.optimizer, labels, b1=t.b1, b2=t.b2, eps=t.eps,
        weight_decay=t.weight_decay, clip=t.clip,
      ),
      _faster('value', c.value_rate),
    )  # fmt: skip
    run = loss(s.model, way)
    step = train.make_train_step(
      run, tx, labels=labels, schedule=schedule(t, way, steps), mesh=s.mesh,
      micro=t.micro,
    )  # fmt: skip
    s.programs[name] = session.Program(run, tx, labels, step, jax.jit(run))
  return s.programs[name]


def loss(model: Any, way: rollout.Way) -> train.Loss:
  """Of a tree of policy and value; the form of the config has the maths."""
  form = rollout.FORMS[way.form]

  def run(params, batch, hyper):
    logps = models.token_logps(model, trees.policy(params), batch)
    values = models.values(model, trees.value(params), batch)
    return form.loss(logps, values, batch, hyper, size=way.max_new)

  return run


def schedule(t: ConfigDict, way: rollout.Way, steps: int) -> Callable:
  """Of the learning rate: the original's stays the same for a rollout."""
  if way.form != 'original':
    return optim.schedule(t.schedule, steps=t.steps, warmup=t.warmup)
  updates = t.steps // steps
  rise = round(t.warmup * updates)
  return lambda step: ppo_original.rate(
    step // steps, updates=updates, rise=rise
  )


def _faster(part: str, factor: float) -> optax.GradientTransformation:
  """Longer steps for one part of the tree."""

  def scale(updates, params=None):
    own = jax.tree.map(lambda x: factor * x, updates[part])
    return {**updates, part: own}

  return optax.stateless(scale)
