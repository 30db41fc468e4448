"""Which tensor goes where: every name and every shape is accounted for."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from rlhfv_jax.convert import words
from rlhfv_jax.convert.shards import Tensor
from rlhfv_jax.convert.tables import (
  FORMATS,
  IGNORED,
  Slot,
  implied,
  slots,
  unread,
)
from rlhfv_jax.models.config import VLMConfig

BEIT3_POSITIONS = 'vision_tower/encoder/embed_positions/A/embedding'
CLIP_POSITIONS = 'vision_tower/embeddings/position_embedding/embedding'

Shapes = Mapping[str, tuple[int, ...]]


class Match(NamedTuple):
  """What of a checkpoint is read, and as what."""

  format: str
  slots: dict[str, Slot]
  implied: dict[str, str]  # see tables.implied
  problems: list[str]


def match(
  tensors: Mapping[str, Tensor],
  shapes: Shapes,
  config: VLMConfig,
  *,
  grown: Sequence[str] = (),
) -> Match:
  """The format that most of the names are in, and what does not fit it.

  `shapes` are our leaves. Words that the file lacks may be added to the leaves
  that a pattern of `grown` matches.
  """
  tables = {f: slots(shapes, r, config) for f, r in FORMATS.items()}
  name = max(tables, key=lambda f: len(tables[f].keys() & tensors.keys()))
  table, rules = tables[name], FORMATS[name]
  if not table.keys() & tensors.keys():
    return Match(name, {}, {}, [_strangers(tensors, tables)])
  fixed = implied(rules, config).items()
  fixed = {name: what for name, what in fixed if name in tensors}
  ignored = [*IGNORED, unread(rules, config)]
  problems, used = [], {}
  for key, tensor in tensors.items():
    if slot := table.get(key):
      used[key] = slot
      if not jnp.issubdtype(tensor.dtype, jnp.floating):
        problems.append(
          f'{key} in {tensor.file.name} is {tensor.dtype}: take the checkpoint '
          'that is not quantised'
        )
      elif trouble := _misfit(tensor.shape, slot, config, grown):
        problems.append(f'{key} in {tensor.file.name} {trouble}')
    elif key not in fixed and not any(re.fullmatch(p, key) for p in ignored):
      problems.append(
        f'{key} {tensor.shape} in {tensor.file.name} has no place in the model'
      )
  return Match(name, used, fixed, problems)


def missing(shapes: Shapes, found: Sequence[Match], config: VLMConfig) -> list:
  """What no source gave: (our path, the name and shape looked for)."""
  have = {(s.path, s.layer) for m in found for s in m.slots.values()}
  rules = FORMATS[max(found, key=lambda m: len(m.slots)).format]
  lacking = {}
  for name, slot in slots(shapes, rules, config).items():
    if (slot.path, slot.layer) not in have:
      lacking.setdefault(slot.path, f'{name} {slot.shape}')
  # Parts that the format of the largest source has no names for.
  given = {path for path, _ in have} | lacking.keys()
  rest = ((p, f'{p} {x}') for p, x in shapes.items() if p not in given)
  return [*lacking.items(), *rest]


def twice(found: Sequence[Match]) -> list[str]:
  """Leaves that two sources give."""
  given = [{s.path for s in m.slots.values()} for m in found]
  return sorted(
    path
    for i, paths in enumerate(given)
    for path in paths
    if any(path in others for others in given[:i])
  )


def _misfit(shape, slot, config, grown):
  """Why a tensor cannot become what the model has in its place, or None."""
  if shape == slot.shape:
    return None
  wrong = f'is {shape}, and the model wants {slot.shape}'
  if len(shape) != len(slot.shape) or shape[1:] != slot.shape[1:]:
    return wrong
  have, want = shape[0], slot.shape[0]
  if slot.path in words.LEAVES:
    return words.misfit(have, want, slot.path, grown)
  if slot.path == BEIT3_POSITIONS:
    # Two rows of offset and the class token stand before the grid.
    return None if have > 3 and math.isqrt(have - 3) ** 2 == have - 3 else wrong
  if slot.path == CLIP_POSITIONS:
    served = math.isqrt(have - 1) * config.vision.patch
    return (
      f'{wrong}: its positions serve pictures of {served} px and the model '
      f'asks for {config.vision.image_size}. Set vision.image_size to '
      f'{served}, or take the tower of the other size'
    )
  return wrong


def _strangers(tensors, tables):
  first = ', '.join(sorted(tensors)[:3])
  known = ', '.join(next(iter(t), '-') for t in tables.values() if t)
  return (
    f'none of its {len(tensors)} tensors ({first}, ...) is known: it is of '
    f'another family of models. Known beginnings: {known}'
  )
