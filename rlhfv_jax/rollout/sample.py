"""Sampling: one answer a prompt, and rows under the policy's eyes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhfv_jax import hosts, models
from rlhfv_jax.batch import Bucket
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.feed import to_batch
from rlhfv_jax.generate import Decoding, serving
from rlhfv_jax.rollout import trees
from rlhfv_jax.rollout.prompts import Prompts, shown


def sampler(
  model: Any,
  prompts: Prompts,
  decoding: Decoding,
  *,
  slots: int,
  key: jax.Array,
  mesh: Mesh,
) -> Callable[[Any, np.ndarray, int], list[np.ndarray]]:
  """(parameters, prompts, rollout) -> the tokens of an answer to each.

  What is drawn depends on the prompt and on the rollout alone.
  """
  lengths = data_rows.lengths(prompts.rows)[:, 0]
  trunks = serving.ladder(lengths[lengths > 0])

  def one(index):
    tokens = data_rows.row(prompts.rows, index).prompt
    seen = prompts.pictures and prompts.pictures[index]
    return serving.Prompt(index, tokens, seen)

  def sample(params, index, number):
    said = serving.stream(
      model,
      trees.policy(params),
      (one(int(i)) for i in index),
      decoding,
      jax.random.fold_in(key, number),
      slots=slots,
      trunks=trunks,
      mesh=mesh,
    )
    found = {answer.index: answer.tokens for answer in said}
    return [found[int(i)] for i in index]

  return sample


def scorer(
  model: Any,
  kept: Any,
  *,
  prompts: Prompts,
  batch: int,
  mesh: Mesh,
) -> Callable[[Any, dict], dict[str, np.ndarray]]:
  """(parameters, rows) -> logps, ref_logps and values, f32[N,L] each.

  `kept` is a copy of the policy's own parameters as it began.
  """

  @jax.jit
  def run(params, kept, batch):
    logps = lambda params: models.token_logps(model, params, batch)
    return {
      'logps': logps(trees.policy(params)),
      'ref_logps': logps(trees.reference(params, kept)),
      'values': models.values(model, trees.value(params), batch),
    }

  bucket, here = Bucket(*prompts.bucket), hosts.rows(batch, mesh)

  def score(params, arrays):
    size, found = len(arrays['index']), []
    for start in range(0, size, batch):
      # The last rows may stand in for those that fill the batch.
      rows = np.minimum(np.arange(start, start + batch), size - 1)[here]
      part = {name: x[rows] for name, x in arrays.items()}
      part |= shown(prompts, part['index'])
      out = run(params, kept, to_batch((bucket, part), mesh))
      found.append(hosts.whole(out))
    return {
      name: np.concatenate([part[name] for part in found])[:size]
      for name in found[0]
    }

  return score
