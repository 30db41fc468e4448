"""The only loop: a state, a pure step, a feed, and hooks beside them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from rlhfv_jax import optim, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.metrics import Mean

Params = Any
Hyper = dict[str, jax.Array]
Stats = dict[str, Mean]
Loss = Callable[[Params, Batch, Hyper], Stats]


class Feed(Protocol):
  """Where batches come from: grain for data, rollouts for PPO."""

  def __call__(self, state: TrainState) -> Batch: ...
  def get_state(self) -> Any: ...
  def set_state(self, state: Any) -> None: ...


@flax.struct.dataclass
class TrainState:
  """All that a step changes. `halted` stays True from the first step whose
  numbers are not finite on, and no later step changes anything."""

  step: jax.Array
  params: Params
  opt_state: Any
  halted: jax.Array


def init_state(
  params: Params, tx: optax.GradientTransformation, labels: Any, mesh: Mesh
) -> TrainState:
  """A state around parameters that are on the mesh; moments are born there."""
  new = functools.partial(_new_state, tx=tx, labels=labels)
  shardings = sharding.specs(jax.eval_shape(new, params), mesh)
  return jax.jit(new, donate_argnums=0, out_shardings=shardings)(params)


def abstract_state(
  params: Params, tx: optax.GradientTransformation, labels: Any, mesh: Mesh
) -> TrainState:
  """The shapes of `init_state`, and where they would live."""
  new = functools.partial(_new_state, tx=tx, labels=labels)
  return sharding.abstract(jax.eval_shape(new, params), mesh)


def _new_state(params, tx, labels):
  trained, _ = optim.split(params, labels)
  return TrainState(
    jnp.zeros((), jnp.int32), params, tx.init(trained), jnp.zeros((), bool)
  )


def make_train_step(
  loss: Loss,
  tx: optax.GradientTransformation,
  *,
  labels: Any,
  schedule: Callable[[jax.Array], jax.Array],
  mesh: Mesh,
  micro: int = 1,
) -> Callable[[TrainState, Batch, Hyper], tuple[TrainState, Stats]]:
  """One update: gradients of the mean loss over micro-batches, then AdamW.

  Losses are sums and counts, so `micro` changes the memory and nothing else.
  """

  def gradients(trained, frozen, batch, hyper):
    def total(trained):
      stats = loss(optim.merge(trained, frozen), batch, hyper)
      return stats['loss'].total, stats

    return jax.grad(total, has_aux=True)(trained)

  def accumulated(trained, frozen, batch, hyper):
    if micro == 1:
      return gradients(trained, frozen, batch, hyper)
    one = lambda part: gradients(trained, frozen, part, hyper)
    # Rows are dealt in turn, so that every micro-batch lies on all shards.
    parts = jax.tree.map(
      lambda x: x.reshape(-1, micro, *x.shape[1:]).swapaxes(0, 1), batch
    )
    like = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    add = lambda sums, part: (jax.tree.map(jnp.add, sums, one(part)), None)
    return lax.scan(add, zero, parts)[0]

  @functools.partial(
    jax.jit, donate_argnums=0, compiler_options=sharding.compiler(mesh)
  )
  def train_step(state, batch, hyper):
    trained, frozen = optim.split(state.params, labels)
    grads, stats = accumulated(trained, frozen, batch, hyper)
    count = stats['loss'].count
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1), grads)
    norm = optax.tree.norm(grads)
    rate = hyper['learning_rate'] * schedule(state.step)
    direction, opt_state = tx.update(grads, state.opt_state, trained)
    descend = lambda p, d: p - (rate * d).astype(p.dtype)
    moved = jax.tree.map(descend, trained, direction)
    fine = jnp.isfinite(stats['loss'].total) & jnp.isfinite(norm)
    go = fine & ~state.halted
    keep = lambda new, old: jax.tree.map(
      lambda a, b: jnp.where(go, a, b), new, old
    )
    new = TrainState(
      state.step + go,
      optim.merge(keep(moved, trained), frozen),
      keep(opt_state, state.opt_state),
      state.halted | ~fine,
    )
    new = lax.with_sharding_constraint(new, sharding.specs(new, mesh))
    extra = {'grad_norm': norm, 'learning_rate': rate}
    if 'lengths' in batch:
      extra['tokens'] = batch['lengths'].sum()
    one = jnp.ones((), jnp.float32)
    return new, stats | {k: Mean(v, one) for k, v in extra.items()}

  return train_step


Hook = Callable[[int, TrainState, Stats, Batch], bool | None]


def fit(
  state: TrainState,
  train_step: Callable[[TrainState, Batch], tuple[TrainState, Stats]],
  feed: Feed,
  *,
  steps: int,
  hooks: Iterable[Hook] = (),
) -> TrainState:
  """Steps until `steps`, or until a hook returns True.

  Nothing here waits for the device; a hook that reads numbers reads those of
  the step before (see `hooks.py`).
  """
  for step in range(int(state.step) + 1, steps + 1):
    with jax.profiler.StepTraceAnnotation('train', step_num=step):
      batch = feed(state)
      state, stats = train_step(state, batch)
    if any([hook(step, state, stats, batch) for hook in hooks]):
      break
  return state
