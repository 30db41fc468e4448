"""What will become of a checkpoint, settled before a byte of it is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from rlhfv_jax import models
from rlhfv_jax.convert import adapters, configs, reward_head, words
from rlhfv_jax.convert.match import Match, match, missing, twice
from rlhfv_jax.convert.shards import Tensor, scan, told
from rlhfv_jax.data import tokenizer
from rlhfv_jax.models.config import VLMConfig

_TOKENIZERS = ('tokenizer.json', 'tokenizer.model')


class Source(NamedTuple):
  """A checkpoint whose every tensor has its place."""

  folder: Path
  tensors: dict[str, Tensor]
  match: Match


class Plan(NamedTuple):
  """All that becomes a model. `drawn` leaves are made anew, `scales` set: of
  adapters, and the head of a reward model.
  """

  config: VLMConfig
  sources: list[Source]
  leaves: dict[str, jax.ShapeDtypeStruct]
  drawn: list[str]
  scales: dict[str, np.ndarray]


def plan(
  folders: Sequence[Path],
  model_config: Mapping[str, Any] | VLMConfig,
  *,
  dtype: str | None = None,
  fresh: Sequence[str] = (),
) -> Plan:
  """Reads names, shapes and settings; whatever does not fit is an error."""
  config = model_config
  if not isinstance(config, VLMConfig):
    config = VLMConfig.of(config)
  shapes = {path: x.shape for path, x in abstract(config).items()}
  sources, scales, troubles = [], {}, {}
  for folder in folders:
    tensors = scan(folder)
    if adapters.are_in(folder):
      found, adapted, scale = adapters.match(folder, tensors, shapes, config)
      shapes, scales = shapes | adapted, scales | scale
      scales |= reward_head.read(folder, config)
    else:
      found = match(tensors, shapes, config, grown=fresh)
      # First: what is wrong there explains the rest.
      found.problems[:0] = _settings(folder, tensors, found, config)
    sources.append(Source(folder, tensors, found))
    troubles[folder] = found.problems
  _raise(troubles)
  _raise_twice(sources)
  drawn = _drawn(sources, shapes, config, fresh)
  leaves = _leaves(sources, shapes, drawn, dtype)
  return Plan(config, sources, leaves, drawn, scales)


@functools.cache
def abstract(config: VLMConfig) -> Mapping[str, jax.ShapeDtypeStruct]:
  """Shape and dtype of every leaf of a model, by path."""
  draw = functools.partial(models.init, models.build(config))
  return flatten_dict(jax.eval_shape(draw, jax.random.key(0)), sep='/')


def _settings(folder, tensors, found, config):
  """Where config.json and the tokenizer beside the weights disagree with us."""
  if not folder.is_dir():
    return []
  problems = []
  if (folder / 'config.json').exists():
    said = told(folder / 'config.json')
    for difference in configs.disagreements(said, config):
      problems.append(f'config.json: {difference}')
  rows = {tensors[name].shape[0] for name, slot in found.slots.items()
          if slot.path in words.LEAVES}  # fmt: skip
  if rows and any((folder / name).exists() for name in _TOKENIZERS):
    known = len(tokenizer.load(folder))
    if not 0 <= max(rows) - known <= words.PADDING:
      problems.append(
        f'its tokenizer knows {known} words and its table has {max(rows)} '
        'rows: put the tokenizer of this checkpoint there'
      )
  return problems


def _raise(troubles):
  for folder, problems in troubles.items():
    if problems:
      more = len(problems) - 6
      shown = [f'  {p}' for p in problems[:6]]
      shown += [f'  and {more} more'] * (more > 0)
      raise ValueError(
        '\n'.join([f'{folder} does not fit this model:', *shown,
                   '  Is it the checkpoint that --model stands for?'])
      )  # fmt: skip


def _raise_twice(sources):
  if doubled := twice([s.match for s in sources]):
    raise ValueError(
      f'{" and ".join(str(s.folder) for s in sources)} both have '
      f'{", ".join(doubled[:3])}: leave one of them out'
    )


def _drawn(sources, shapes, config, fresh):
  """The leaves that no source has, if each may be drawn."""
  lacking = missing(shapes, [s.match for s in sources], config)
  refused = [
    (path, name)
    for path, name in lacking
    if not any(re.fullmatch(p, path) for p in fresh)
  ]
  if refused:
    names = ', '.join(name for _, name in refused[:3])
    parts = sorted({path.split('/')[0] for path, _ in refused})
    raise ValueError(
      f'{", ".join(str(s.folder) for s in sources)}: '
      f'{len(refused)} tensors are missing: {names}'
      f'{", ..." if len(refused) > 3 else ""}. '
      + ' '.join(_way(part, sources, config) for part in parts)
    )
  return [path for path, _ in lacking]


def _way(part, sources, config):
  """Where a missing part of a model may come from."""
  if part == 'vision_tower':
    said = [s.folder / 'config.json' for s in sources if s.folder.is_dir()]
    said = [told(p) for p in said if p.exists()]
    towers = [c['mm_vision_tower'] for c in said if 'mm_vision_tower' in c]
    tower = next(iter(towers), f'the {config.vision.kind} tower')
    return f'Import {tower} together with it.'
  if part in ('mm_projector', 'query'):
    return f'Draw {part} anew with fresh="{part}.*", or import what has it.'
  return 'Is it the checkpoint that --model stands for?'


def _leaves(sources, shapes, drawn, dtype):
  """What each leaf will be: of the files' own dtype if none is asked for."""
  own: dict[str, set] = {path: {np.dtype(np.float32)} for path in drawn}
  for source in sources:
    for name, slot in source.match.slots.items():
      found = source.tensors[name].dtype
      # bfloat16 would round what float16 says.
      if found in (np.float16, np.float64):
        found = np.dtype(np.float32)
      own.setdefault(slot.path, set()).add(found)
  leaves = {}
  for path, shape in shapes.items():
    found = own[path]
    if dtype is not None and '/lora_' not in path:
      found = {jnp.dtype(dtype)}
    if len(found) > 1:
      raise ValueError(
        f'the layers of {path} are of {" and ".join(map(str, found))}: say '
        'with dtype which of them they should have'
      )
    leaves[path] = jax.ShapeDtypeStruct(shape, *found)
  return leaves
