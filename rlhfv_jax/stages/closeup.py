"""One pair seen from near: its row, its batch, and a number at each token."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import sharding, train
from rlhfv_jax.batch import Batch
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.stages import problem
from rlhfv_jax.stages.problem import Setup
from rlhfv_jax.train import hooks

NAMES = ('chosen', 'rejected')


class Closeup(NamedTuple):
  """Row 0 of a batch, with the words of each answer's scored tokens."""

  row: data_rows.Row
  batch: Batch  # a row for each device: the pair, then rows that count nothing
  words: list[list[str]]


def pair(s: Setup, example: Example) -> Closeup:
  """Encodes a pair as the run would, and puts it on the devices."""
  path = s.folder / 'closeup' / 'pair.parquet'
  path.parent.mkdir(parents=True, exist_ok=True)
  sources.write(path, [example])
  data = problem.read(s, sources.read(path), name='closeup/pair')
  if data.rows.rejected:
    rejected = data.rows.rejected[0]
    raise ValueError(
      f'{example.id} is no row: {rejected.reason}: {rejected.detail}'
    )
  (batch,) = problem.held_out(s, data, s.mesh.size)()
  one = data_rows.row(data.rows, 0)
  words = [
    s.tokenizer.convert_ids_to_tokens(one.path(c)[role > 0].tolist())
    for c, role in enumerate(one.roles)
  ]
  return Closeup(one, batch, words)


def scored(
  seen: Closeup, values: jax.Array | np.ndarray
) -> dict[str, tuple[list[str], np.ndarray]]:
  """[B,L] or [B,C,L] -> {answer: (words, the numbers at its scored tokens)}."""
  values = np.asarray(values)[0]
  _, places = data_rows.place(seen.row, seen.batch.bucket)
  found = {}
  for c, (name, words) in enumerate(zip(NAMES, seen.words, strict=True)):
    own = values if values.ndim == 1 else values[c]
    found[name] = words, own[places[c][seen.row.roles[c] > 0]]
  return found


def learn(
  s: Setup, batch: Batch, params: Any, *, beta: float, gamma: float
) -> tuple[Any, list[dict]]:
  """config.train.steps on this batch alone; what each step said of itself.

  The step is the run's own; it compiles once for all beta and gamma.
  """
  c = s.config.train
  program = problem.program(s, 'preference', c)
  hyper = sharding.scalars(
    {'learning_rate': c.lr, 'beta': beta, 'gamma': gamma}, s.mesh
  )
  mine = jax.tree.map(jnp.copy, params)
  state = train.init_state(mine, program.tx, program.labels, s.mesh)
  rows = []
  for step in range(1, c.steps + 1):
    state, stats = program.train_step(state, batch, hyper)
    rows.append({'step': step} | hooks.values(stats))
  return state.params, rows
