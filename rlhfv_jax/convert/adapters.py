"""LoRA adapters in the files of PEFT, in and out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhfv_jax.convert.match import Match, Shapes
from rlhfv_jax.convert.shards import Tensor, told
from rlhfv_jax.convert.tables import FORMATS, Rules, slots, their_name
from rlhfv_jax.models.config import VLMConfig

SETTINGS = 'adapter_config.json'
WEIGHTS = 'adapter_model.safetensors'
PREFIX = 'base_model.model.'
# What PEFT can do to a layer and this package does not read.
_FOREIGN = {
  'bias': ('none', None),
  'modules_to_save': (None, []),
  'use_dora': (False, None),
  'fan_in_fan_out': (False, None),
}


class Adapters(NamedTuple):
  """What adapters add to a model: leaves from tensors, and their scales."""

  match: Match
  shapes: dict[str, tuple[int, ...]]
  scales: dict[str, np.ndarray]


def are_in(folder: Path) -> bool:
  return (folder / SETTINGS).exists()


def match(
  folder: Path,
  tensors: Mapping[str, Tensor],
  shapes: Shapes,
  config: VLMConfig,
) -> Adapters:
  """Where the tensors of an adapter go; `shapes` are the leaves of its base."""
  settings = told(folder / SETTINGS, 'r', 'lora_alpha')
  problems = [
    f'{SETTINGS} has {key} = {settings[key]!r}, which is not read: merge the '
    'adapter into its base with PEFT, and import that'
    for key, fine in _FOREIGN.items()
    if settings.get(key) not in fine
  ]
  every = {f: _leaves(tensors, shapes, r) for f, r in FORMATS.items()}
  name = max(every, key=lambda f: len(every[f]))
  table = slots(every[name], FORMATS[name], config)
  table = {PREFIX + key: slot for key, slot in table.items()}
  for key in sorted(tensors.keys() - table.keys()):
    problems.append(f'{key} {tensors[key].shape} adapts nothing in the model')
  for key, slot in table.items():
    if key not in tensors:
      problems.append(f'{key} {slot.shape} is missing')
    elif tensors[key].shape != slot.shape:
      problems.append(
        f'{key} is {tensors[key].shape}, and the model wants {slot.shape}'
      )
  scales = {
    path.replace('/lora_a', '/lora_scale'): _scale(
      settings, path, shape, FORMATS[name]
    )
    for path, shape in every[name].items()
    if path.endswith('/lora_a')
  }
  used = {key: slot for key, slot in table.items() if key in tensors}
  return Adapters(Match(name, used, {}, problems), every[name], scales)


def settings(
  params: Mapping[str, Any], rules: Rules, base: str
) -> dict[str, Any]:
  """adapter_config.json of flat parameters, for a base on the hub."""
  alphas, ranks = {}, {}
  for path, a in params.items():
    if path.endswith('/lora_a'):
      name = their_name(path, rules).removesuffix('.lora_A.weight')
      scale = np.asarray(params[path.replace('/lora_a', '/lora_scale')])
      for layer, value in enumerate(np.atleast_1d(scale)):
        ranks[name.format(layer)] = a.shape[-1]
        alphas[name.format(layer)] = float(value) * a.shape[-1]
  rank, alpha = (
    Counter(of.values()).most_common(1)[0][0] for of in (ranks, alphas)
  )
  # A pattern: names alone would adapt the image tower's layers as well.
  last = '|'.join(sorted({name.rsplit('.', 1)[1] for name in ranks}))
  inside = '.*language_model' if 'language_model' in next(iter(ranks)) else ''
  return {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': base,
    'r': rank,
    'lora_alpha': alpha,
    'rank_pattern': {k: r for k, r in ranks.items() if r != rank},
    'alpha_pattern': {k: a for k, a in alphas.items() if a != alpha},
    'target_modules': rf'{inside}.*\.({last})',
    'lora_dropout': 0.0,
    'bias': 'none',
    'inference_mode': True,
  }


def _leaves(tensors, shapes, rules):
  """The LoRA leaves that are there, their ranks from the files."""
  found = {}
  for path, shape in shapes.items():
    if not path.endswith('/kernel'):
      continue
    a, b = (path.removesuffix('kernel') + x for x in ('lora_a', 'lora_b'))
    name = their_name(a, rules)
    if name and (tensor := tensors.get(PREFIX + name.format(0))):
      rank, (*stack, into, out) = tensor.shape[0], shape
      found |= {a: (*stack, into, rank), b: (*stack, rank, out)}
  return found


def _scale(settings, path, shape, rules):
  """alpha / r, in float32, of a module or of every layer of a stack."""
  name = their_name(path, rules).removesuffix('.lora_A.weight')

  def of(name):
    rank = _patterned(settings.get('rank_pattern'), name, settings['r'])
    alpha = _patterned(
      settings.get('alpha_pattern'), name, settings['lora_alpha']
    )
    return alpha / (rank**0.5 if settings.get('use_rslora') else rank)

  if len(shape) == 2:
    return np.float32(of(name))
  return np.float32([of(name.format(i)) for i in range(shape[0])])


def _patterned(patterns, name, default):
  """PEFT's own reading: a key stands for the end of a name."""
  for pattern, value in (patterns or {}).items():
    if re.match(rf'(.*\.)?({pattern})$', name):
      return value
  return default
