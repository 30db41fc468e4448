"""Our step: the one that trains, with a pair as one row or as two."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.speed import clock, pairs
from launch.speed.settings import BETA, CLIP, DECODER, RATE
from launch.speed.sizes import Size
from rlhfv_jax import models, optim, process, sharding, train
from rlhfv_jax.batch import Batch
from rlhfv_jax.feed import to_batch
from rlhfv_jax.models import lora
from rlhfv_jax.objectives.preference import preference_loss
from rlhfv_jax.train import hooks

SEED = 0
ALL = ((r'.*', optim.TRAINED),)
ADAPTERS = ((r'.*lora_[ab]', optim.TRAINED), (r'.*', optim.FROZEN))


class Ours(NamedTuple):
  """A model, its parameters on the devices, and which of them are trained."""

  size: Size
  model: Any
  params: Any
  labels: Any
  mesh: Any


def build(size: Size) -> Ours:
  """Fresh weights, the same in every process."""
  process.keep_memory()
  mesh = sharding.make_mesh()
  model = models.build(size.model)

  def fresh(key):
    params = models.init(model, key)
    if size.rank:
      params = lora.attach(params, key, rank=size.rank, alpha=2 * size.rank,
                           targets=DECODER)  # fmt: skip
      labels = optim.labels(params, ADAPTERS)
      params = optim.cast_frozen(params, labels, jnp.bfloat16)
    return params

  key = jax.random.key(SEED)
  like = jax.eval_shape(fresh, key)
  place = sharding.specs(like, mesh)
  params = jax.jit(fresh, out_shardings=place)(key)
  labels = optim.labels(params, ADAPTERS if size.rank else ALL)
  return Ours(size, model, params, labels, mesh)


def rows(ours: Ours, *, shared: bool) -> tuple[tuple, dict[str, np.ndarray]]:
  """(bucket, arrays) with the log-probs of the reference, which is cached."""
  size, drawn = ours.size, pairs.draw(ours.size)
  if shared:
    bucket = size.trunk, size.answer, 2
    arrays = pairs.trunks(drawn, size)
  else:
    bucket = size.trunk + size.answer, 0, 1
    arrays = pairs.rows(drawn, size)
  score = jax.jit(functools.partial(models.token_logps, ours.model))
  with jax.set_mesh(ours.mesh):
    logps = score(ours.params, Batch(arrays, bucket))
  return bucket, arrays | {'ref_logps': np.asarray(logps, np.float32)}


def loss_of(model: Any) -> train.Loss:
  """DPO of a pair, whether it is one row or two that follow each other."""

  def loss(params, batch, hyper):
    logps = models.token_logps(model, params, batch)
    given = logps, batch['ref_logps'], batch['roles']
    if batch['roles'].shape[1] == 1:
      given = _joined(*given)
    return preference_loss(
      *given, beta=hyper['beta'], gamma=hyper['gamma'], normalize=False
    )

  return loss


def _joined(logps, ref_logps, roles):
  """Two rows after each other as one, in which each has its own roles."""
  wide = lambda x: x.reshape(len(x) // 2, -1)
  one = wide(roles[:, 0]).reshape(len(roles) // 2, 2, -1)
  zero = jnp.zeros_like(one[:, 0])
  chosen = jnp.concatenate([one[:, 0], zero], axis=1)
  rejected = jnp.concatenate([zero, one[:, 1]], axis=1)
  return wide(logps), wide(ref_logps), jnp.stack([chosen, rejected], axis=1)


def stepper(ours: Ours, *, micro: int) -> tuple[Any, Any, Any]:
  """(state, step, hyper); the state takes the parameters over."""
  tx = optim.optimizer(ours.size.optimizer, ours.labels, clip=CLIP)
  constant = optim.schedule('constant', steps=10**6, warmup=0)
  step = train.make_train_step(
    loss_of(ours.model), tx, labels=ours.labels, schedule=constant,
    mesh=ours.mesh, micro=micro,
  )  # fmt: skip
  hyper = {'learning_rate': RATE, 'beta': BETA, 'gamma': 1.0}
  hyper = sharding.scalars(hyper, ours.mesh)
  state = train.init_state(ours.params, tx, ours.labels, ours.mesh)
  return state, step, hyper


def measure(size: Size, *, steps: int, shared: bool = True) -> dict[str, Any]:
  """Each step from arrays of the host to numbers on the host."""
  ours = build(size)
  with jax.set_mesh(ours.mesh):
    item = rows(ours, shared=shared)
    state, train_step, hyper = stepper(ours, micro=size.micro)
    seen = []

    def step():
      nonlocal state
      batch = to_batch(item, ours.mesh)
      state, stats = train_step(state, batch, hyper)
      seen.append(hooks.values(stats))
      jax.block_until_ready(state)

    begun = time.perf_counter()
    step()
    first = time.perf_counter() - begun
    took = clock.seconds(step, warm=0, steps=steps)
  return clock.summary(took) | {
    'first': first,
    'peak_mib': _peak(),
    'loss': [x['loss'] for x in seen],
    'grad_norm': [x['grad_norm'] for x in seen],
    'logps': [seen[0]['logps/chosen'], seen[0]['logps/rejected']],
    'device': jax.devices()[0].device_kind,
    'devices': jax.device_count(),
  }


def _peak() -> float:
  """Of the busiest device; where it is the host itself, of this process."""
  held = [(d.memory_stats() or {}).get('peak_bytes_in_use', 0)
          for d in jax.local_devices()]  # fmt: skip
  return max(held) / clock.MIB or clock.peak_mib()


def export(size: Size, folder: Path) -> None:
  """The same weights for transformers, with a tokenizer and a processor."""
  from rlhfv_jax.convert import export_weights

  if not (folder / 'config.json').exists():
    ours = build(size)
    export_weights(
      ours.params, size.model, folder, tokenizer=pairs.tokenizer(size),
      policy='squash',
    )  # fmt: skip
