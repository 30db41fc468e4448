"""Eyes: the playroom's tower learns to see before it learns to talk.

Real towers come pretrained, and a language model that has to teach its own
eyes hallucinates because it sees badly, which no preference can mend. Here
token j of the tower learns to tell what is at place j: kind, colour and number,
and which place that is.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax.metrics import Mean
from rlhfv_jax.playroom.scene import COLOURS, KINDS, NUMBERS, PLACES, Scene

# A kind or nothing and the place; colour and number where there is something.
PARTS = {
  'kind': 1 + len(KINDS),
  'place': len(PLACES),
  'colour': len(COLOURS),
  'number': len(NUMBERS),
}


def labels(scene: Scene, tokens: int) -> np.ndarray:
  """i32[tokens,4]: what each token should tell, in the order of PARTS.

  The tokens are a square grid over the picture, as the places are.
  """
  side, places = math.isqrt(tokens), math.isqrt(len(PLACES))
  if side * side != tokens:
    raise ValueError(
      f'{tokens} image tokens are no square: choose vision.queries or patches '
      f'that lie on a grid, like {len(PLACES)}'
    )
  there = {group.place: group for group in scene.groups}
  seen = np.zeros((tokens, len(PARTS)), np.int32)
  for j in range(tokens):
    row, column = ((2 * i + 1) * places // (2 * side) for i in divmod(j, side))
    seen[j, 1] = row * places + column
    if group := there.get(PLACES[seen[j, 1]]):
      seen[j, 0] = 1 + KINDS.index(group.kind)
      seen[j, 2] = COLOURS.index(group.colour)
      seen[j, 3] = NUMBERS.index(group.number)
  return seen


def init(params: Any, width: int) -> dict[str, Any]:
  """The tower's part of a model's parameters, and a linear probe on it."""
  names = ('vision_tower', 'query')
  probe = {
    'kernel': jnp.zeros((width, sum(PARTS.values()))),
    'bias': jnp.zeros(sum(PARTS.values())),
  }
  return {k: params[k] for k in names if k in params} | {'probe': probe}


def loss(model: Any):
  """Cross-entropy of the probe, a mean over the tower's tokens."""

  ends = np.cumsum(list(PARTS.values()))[:-1]

  def run(params, batch, hyper) -> dict[str, Mean]:
    seen = model.apply({'params': params}, batch['images'], method='look')
    logits = (
      seen @ params['probe']['kernel'] + params['probe']['bias'][None, None]
    )
    parts = jnp.split(logits.astype(jnp.float32), ends, axis=-1)
    real = jnp.broadcast_to(batch['index'][:, None] >= 0, seen.shape[:2])
    thing = real & (batch['labels'][..., 0] > 0)
    total, stats = 0.0, {}
    for k, name in enumerate(PARTS):
      truth = batch['labels'][..., k]
      logps = jax.nn.log_softmax(parts[k])
      told = jnp.take_along_axis(logps, truth[..., None], -1)[..., 0]
      where = real if name in ('kind', 'place') else thing
      total -= jnp.where(where, told, 0)
      right = (parts[k].argmax(-1) == truth).astype(jnp.float32)
      stats[f'accuracy/{name}'] = Mean.of(right, where=thing)
    return {'loss': Mean.of(total, where=real)} | stats

  return run
