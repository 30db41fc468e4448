"""Trees: policy and value as the parameters of one training.

{'base', 'policy', 'value'}: what both stand on and nobody changes lies in
`base`, once; each has the rest of its own. Apart, `base` is empty and both are
whole models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from rlhfv_jax import optim
from rlhfv_jax.models import lora

Rules = Sequence[tuple[str, str]]
HEAD = ('(value/)?score_head/.*', optim.TRAINED)


def together(policy: Any, value: Any, rules: Rules) -> dict[str, Any]:
  """Both on one base: what the rules freeze, which has to be equal."""
  base, own = _split(policy, rules)
  other, theirs = _split(value, rules)
  a, b = flatten_dict(base, sep='/'), flatten_dict(other, sep='/')
  differ = [
    k for k in sorted(a.keys() | b.keys())
    if k not in a or k not in b or not bool(jnp.array_equal(a[k], b[k]))
  ]  # fmt: skip
  if differ:
    raise ValueError(
      f'policy and value stand on another base each: {differ[0]} and '
      f'{len(differ) - 1} more are not equal. Take a reward model of this '
      "base, config.ppo.value = 'base', or config.ppo.shared = False"
    )
  return {'base': base, 'policy': own, 'value': theirs}


def apart(policy: Any, value: Any) -> dict[str, Any]:
  """Each its own model."""
  return {'base': {}, 'policy': policy, 'value': value}


def policy(params: Any) -> Any:
  return lora.join(params['base'], params['policy'])


def value(params: Any) -> Any:
  return lora.join(params['base'], params['value'])


def reference(params: Any, kept: Any) -> Any:
  """The policy as it was when `kept` was copied from it."""
  return lora.join(params['base'], kept)


def copy(tree: Any) -> Any:
  """The same numbers in arrays of their own: a step gives its own away."""
  return jax.tree.map(jnp.copy, tree)


def rules(rules: Rules) -> Rules:
  """The rules of a model as those of the tree; the value's head learns."""
  both = [(f'(policy|value)/(?:{pattern})', kind) for pattern, kind in rules]
  return (('base/.*', optim.FROZEN), HEAD, *both)


def _split(params, rules):
  """(frozen, the rest), without holes."""
  kinds = flatten_dict(optim.labels(params, (HEAD, *rules)))
  flat = flatten_dict(params)
  part = lambda frozen: unflatten_dict({
    k: x for k, x in flat.items() if (kinds[k] == optim.FROZEN) == frozen
  })  # fmt: skip
  return part(True), part(False)
