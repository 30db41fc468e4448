"""Their names for our parameters: one regex table a format, read both ways.

Parameters keep the leaf names of their originals, so a format is no more than
where each part of the model hangs: (how our path begins, how theirs does). What
follows is ours with dots, the number of a layer after `layers`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlhfv_jax.models.config import VLMConfig

Rules = Sequence[tuple[str, str]]


def _decoder(prefix: str, head: str = 'lm_head') -> Rules:
  return (('language_model/lm_head', head), ('language_model', prefix))


def _connector(prefix: str) -> Rules:
  # transformers knows two layers only: a single one is its first.
  return (
    ('mm_projector/(linear_[12])', rf'{prefix}.\1'),
    ('mm_projector', rf'{prefix}.linear_1'),
  )


# The first match of a table wins; of formats that fit alike, the first.
FORMATS = {
  'llama': _decoder('model'),
  'muffin': (
    *_decoder('model'),
    ('vision_tower', 'model.vision_tower.beit3'),
    ('(query|mm_projector)', r'model.\1'),
  ),
  'llava': (
    *_decoder('model'),
    ('vision_tower', 'model.vision_tower.vision_tower.vision_model'),
    ('mm_projector/linear_1', 'model.mm_projector.0'),
    ('mm_projector/linear_2', 'model.mm_projector.2'),
    ('mm_projector', 'model.mm_projector'),
  ),
  # transformers: its files to 4.57, its files from 5.0, and its state dict in
  # memory then and now, which sharded trainers write as it is.
  'hf': (
    *_decoder('language_model.model', 'language_model.lm_head'),
    ('vision_tower', 'vision_tower.vision_model'),
    *_connector('multi_modal_projector'),
  ),
  'hf5': (
    *_decoder('language_model.model', 'language_model.lm_head'),
    ('vision_tower', 'vision_tower'),
    *_connector('multi_modal_projector'),
  ),
  'hf_state': (
    *_decoder('model.language_model'),
    ('vision_tower', 'model.vision_tower.vision_model'),
    *_connector('model.multi_modal_projector'),
  ),
  'hf5_state': (
    *_decoder('model.language_model'),
    ('vision_tower', 'model.vision_tower'),
    *_connector('model.multi_modal_projector'),
  ),
  # The towers alone, as their makers gave them away.
  'beit3': (('vision_tower', 'beit3'),),
  'clip': (('vision_tower', 'vision_model'),),
  'clip5': (('vision_tower', ''),),
}

# In files that are read, and needed by nobody here.
IGNORED = (
  r'.*\.rotary_emb\.inv_freq',
  r'.*embeddings\.position_ids',
  r'(.*\.)?post_layernorm\.(weight|bias)',
  r'.*beit3\.(vision_embed\.mask_token|text_embed\.weight)',
  r'(mim|mlm|vision|language)_head\.(weight|bias)',
  r'logit_scale',
  r'text_model\..*',
  r'(text|visual)_projection\.weight',
)

_LEAVES = {
  'kernel': 'weight',
  'embedding': 'weight',
  'lora_a': 'lora_A.weight',
  'lora_b': 'lora_B.weight',
}
_PATCHES = re.compile(
  r'vision_tower/.*(patch_embedding|vision_embed/proj)/kernel'
)
_TURNED = re.compile(r'.*/(kernel|lora_a|lora_b)')
_STACKED = re.compile(r'.*/layers/.*')


class Slot(NamedTuple):
  """Where a tensor of theirs belongs: a leaf, or a layer of a stacked one."""

  path: str
  layer: int | None
  shape: tuple[int, ...]  # of theirs


def their_name(path: str, rules: Rules) -> str | None:
  """Their name of a leaf, {} for its layer; None where they have none."""
  for ours, theirs in rules:
    if found := re.match(rf'{ours}(?=/|$)', path):
      rest = path[found.end() :].replace('/layers/', '/layers/{}/')
      first, _, leaf = rest.rpartition('/')
      rest = f'{first}/{_LEAVES.get(leaf, leaf)}' if leaf else ''
      return (found.expand(theirs) + rest).replace('/', '.').lstrip('.')
  return None


def slots(
  shapes: Mapping[str, tuple[int, ...]], rules: Rules, config: VLMConfig
) -> dict[str, Slot]:
  """Every tensor of a format by its name, for leaves of these shapes."""
  table = {}
  for path, shape in shapes.items():
    name = their_name(path, rules)
    if name is None:
      continue
    stacked = _STACKED.fullmatch(path) is not None
    theirs = their_shape(path, shape[1:] if stacked else shape, config)
    if not stacked:
      table[name] = Slot(path, None, theirs)
      continue
    for layer in range(shape[0]):
      table[name.format(layer)] = Slot(path, layer, theirs)
  return table


def unread(rules: Rules, config: VLMConfig) -> str:
  """A pattern of the layers of CLIP that come after the one that is read."""
  vision = config.vision
  name = their_name('vision_tower/encoder/layers/x', rules)
  if vision is None or vision.kind != 'clip' or name is None:
    return r'(?!)'
  after = range(vision.depth + 1 + vision.layer, vision.depth)
  numbers = '|'.join(map(str, after)) or r'(?!)'
  prefix = re.escape(name.removesuffix('{}.x'))
  return rf'{prefix}({numbers})\..*'


def their_shape(
  path: str, shape: tuple[int, ...], config: VLMConfig
) -> tuple[int, ...]:
  """The shape that one of our leaves, or a layer of it, has in their files."""
  if _PATCHES.fullmatch(path):
    patch = config.vision.patch
    return shape[1], shape[0] // patch**2, patch, patch
  return shape[::-1] if _TURNED.fullmatch(path) else tuple(shape)


def to_ours(x: np.ndarray, path: str) -> np.ndarray:
  """[out, in] -> [in, out]; a convolution's kernel -> flat patches."""
  if _PATCHES.fullmatch(path):
    return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
  return x.T if _TURNED.fullmatch(path) else x


def to_theirs(x: np.ndarray, path: str, config: VLMConfig) -> np.ndarray:
  """The inverse of `to_ours`."""
  if _PATCHES.fullmatch(path):
    out, channels, patch, _ = their_shape(path, x.shape, config)
    return x.reshape(patch, patch, channels, out).transpose(3, 2, 0, 1)
  return x.T if _TURNED.fullmatch(path) else x


def implied(rules: Rules, config: VLMConfig) -> dict[str, str]:
  """Tensors that have no leaf of ours, since others say what is in them.

  A single linear connector stands in two layers of which the second does
  nothing ('eye', 'zeros'); a tied head is the table of words ('words').
  """
  found = {}
  first = their_name('mm_projector/kernel', rules) or ''
  if config.connector == 'linear' and '.linear_1.' in first:
    second = first.replace('.linear_1.weight', '.linear_2')
    found |= {f'{second}.weight': 'eye', f'{second}.bias': 'zeros'}
  head = their_name('language_model/lm_head/kernel', rules)
  if config.text.tie_head and head:
    found[head] = 'words'
  return found
