"""One training from parameters to parameters: logged, resumable, stoppable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from rlhfv_jax import files, hosts, optim, sharding, train
from rlhfv_jax.batch import Batch
from rlhfv_jax.checkpoint import Checkpoints, load_params, save_params
from rlhfv_jax.train import adapt, hooks


class Program(NamedTuple):
  """What is compiled. Sessions that differ in numbers alone share one."""

  loss: train.Loss
  tx: Any
  labels: Any
  train_step: Callable
  eval_step: Callable


def program(
  loss: train.Loss, params: Any, config: Mapping[str, Any], mesh: Mesh
) -> Program:
  """The optimizer and the jitted steps of config.train around a loss."""
  labels = optim.labels(params, config.rules)
  tx = optim.optimizer(
    config.optimizer, labels, b1=config.b1, b2=config.b2, eps=config.eps,
    weight_decay=config.weight_decay, clip=config.clip,
  )  # fmt: skip
  schedule = optim.schedule(
    config.schedule, steps=config.steps, warmup=config.warmup
  )
  step = train.make_train_step(
    loss, tx, labels=labels, schedule=schedule, mesh=mesh, micro=config.micro
  )
  return Program(loss, tx, labels, step, jax.jit(loss))


def run(
  program: Program,
  params: Any,
  feed: train.Feed,
  *,
  hyper: Mapping[str, float],
  config: Mapping[str, Any],
  held_out: Callable[[], Iterable[Batch]] | None,
  folder: Path,
  name: str,
  mesh: Mesh,
) -> Any:
  """Trains `params` (which it consumes) and returns the best it saw.

  Everything is in `folder`: run again it goes on, or is done at once. Of
  parameters with adapters it holds what is trained.
  """
  saved = functools.partial(adapt.saved, labels=program.labels)
  if hosts.there(folder / 'done.json'):
    return optim.merge(load_params(folder / 'params', saved(params)), params)
  sharding.check_batch(config.batch, mesh, micro=config.micro)
  hyper = sharding.scalars({'learning_rate': config.lr} | dict(hyper), mesh)
  state = train.init_state(params, program.tx, program.labels, mesh)
  checkpoints = Checkpoints(folder / 'checkpoints', keep=config.keep)

  like = state.replace(params=saved(state.params))
  if restored := checkpoints.restore(like, feed.get_state()):
    found, position = restored
    state = found.replace(params=optim.merge(found.params, state.params))
    feed.set_state(position)
  start = int(state.step)
  metrics = hooks.Metrics(folder, start=start)
  log = hooks.Log(
    metrics, name=name, start=start, steps=config.steps, every=config.log_every,
    examine=hooks.examine(program, hyper, folder),
  )  # fmt: skip

  def save(step, state):
    log.catch_up(state)
    part = state.replace(params=saved(state.params))
    checkpoints.save(step, part, feed.get_state())

  beside = [log, hooks.save_every(config.save_every, config.steps, save)]
  if held_out is not None:
    evaluate = hooks.evaluate_every(
      config.eval_every, config.steps,
      evaluate=hooks.mean_over(program.eval_step, held_out, hyper),
      metrics=metrics, best=config.best, patience=config.patience,
      folder=folder, saved=saved,
    )  # fmt: skip
    beside.insert(1, evaluate)
    if start == 0:
      evaluate(0, state)
  step = functools.partial(with_hyper, program.train_step, hyper)
  with hooks.sigterm() as asked:
    beside.append(hooks.stop_when(asked, save, checkpoints))
    try:
      state = train.fit(state, step, feed, steps=config.steps, hooks=beside)
      log.finish(state)
    finally:
      checkpoints.close()
      metrics.close()
  params = state.params
  if held_out is not None:
    best = load_params(folder / 'best', saved(params))
    params = optim.merge(best, params)
  save_params(folder / 'params', saved(params))
  files.write_json(folder / 'done.json', {'steps': int(state.step)})
  return params


def with_hyper(train_step, hyper, state, batch):
  """The step that `fit` calls: of a state and a batch."""
  return train_step(state, batch, hyper)
