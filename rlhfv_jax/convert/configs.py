"""config.json: written for what we export, and held against what we import.

Shapes tell width from width, not a wrong number of heads, norm or rotation: so
what the file says of those must agree.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlhfv_jax.convert import words
from rlhfv_jax.models.config import TextConfig, VLMConfig

# Their key -> ours.
_TEXT = {
  'vocab_size': 'vocab_size',
  'hidden_size': 'width',
  'intermediate_size': 'mlp',
  'num_hidden_layers': 'depth',
  'num_attention_heads': 'heads',
  'num_key_value_heads': 'kv_heads',
  'rms_norm_eps': 'rms_eps',
  'tie_word_embeddings': 'tie_head',
}
_VISION = {
  'hidden_size': 'width',
  'intermediate_size': 'mlp',
  'num_attention_heads': 'heads',
  'patch_size': 'patch',
}
# Who has a decoder of Llama's kind, under whatever name.
_LLAMAS = r'(beit3_)?llava|(llava_)?(llama|mistral)|'
_LLAMA3 = {
  'factor': 'rope_factor',
  'low_freq_factor': 'rope_low',
  'high_freq_factor': 'rope_high',
  'original_max_position_embeddings': 'rope_original',
}


def llama(c: TextConfig) -> dict[str, Any]:
  """A decoder as transformers describes it; read by its versions 4 and 5."""
  scaling = None
  if c.rope_factor != 1 and c.rope_original:
    scaling = {'rope_type': 'llama3'}
    scaling |= {k: getattr(c, ours) for k, ours in _LLAMA3.items()}
  elif c.rope_factor != 1:
    scaling = {'rope_type': 'linear', 'factor': c.rope_factor}
  return {
    'architectures': ['LlamaForCausalLM'],
    'model_type': 'llama',
    **{theirs: getattr(c, ours) for theirs, ours in _TEXT.items()},
    'max_position_embeddings': c.max_length,
    'head_dim': c.head_dim,
    'hidden_act': 'silu',
    'rope_theta': c.rope_theta,
    'rope_scaling': scaling,
    'attention_bias': False,
    'mlp_bias': False,
  }


def llava(config: VLMConfig) -> dict[str, Any]:
  """transformers' LLaVA. The tower ends with the layer that is read."""
  v = config.vision
  tower = {theirs: getattr(v, ours) for theirs, ours in _VISION.items()}
  return {
    'architectures': ['LlavaForConditionalGeneration'],
    'model_type': 'llava',
    'text_config': llama(config.text) | {'vocab_size': words.padded(config)},
    'vision_config': {
      'model_type': 'clip_vision_model',
      **tower,
      'num_hidden_layers': v.depth + 1 + v.layer,
      'image_size': v.image_size,
      'hidden_act': 'quick_gelu',
      'layer_norm_eps': 1e-5,
      'projection_dim': 768,
    },
    'image_token_index': words.placeholder(config),
    'image_seq_length': v.patches,
    # A single linear map is written as one with an identity behind it.
    'projector_hidden_act': 'gelu' if config.connector == 'mlp2x' else 'linear',
    'multimodal_projector_bias': True,
    'vision_feature_layer': -1,
    'vision_feature_select_strategy': 'default',
    'tie_word_embeddings': config.text.tie_head,
  }


def muffin(config: VLMConfig) -> dict[str, Any]:
  """What the authors' code reads its own checkpoints with."""
  v = config.vision
  return llama(config.text) | {
    'architectures': ['Beit3LlavaLlamaForCausalLM'],
    'model_type': 'beit3_llava',
    'mm_vision_tower': f'beit3_large_patch{v.patch}_{v.image_size}',
    'num_query': v.queries,
    'use_mm_proj': True,
    'mm_use_im_start_end': True,
    'mm_hidden_size': v.width,
    'max_sequence_length': config.text.max_length,
    'fully_tune': True,
  }


def disagreements(found: Mapping[str, Any], config: VLMConfig) -> list[str]:
  """Where a config.json and ours differ in what both of them say."""
  wrong = []
  kind = found.get('model_type') or ''
  text = found.get('text_config') or found
  if not kind.startswith('clip'):
    wrong += list(_family(kind, text, config.text))
    wrong += list(_differ('', text, _TEXT, config.text, skip='vocab_size'))
    wrong += list(_rotation(text, config.text))
  if config.vision is not None and config.vision.kind == 'clip':
    wrong += list(_sight(kind, found, config.vision))
  if 'projector_hidden_act' in found and config.vision is not None:
    theirs = 'linear' if found['projector_hidden_act'] == 'linear' else 'mlp2x'
    if theirs != config.connector:
      wrong.append(f'connector is {theirs} there and {config.connector} here')
  return wrong


def _family(kind, text, c) -> Iterator[str]:
  """Whether it is a Llama; others have tensors of the same names."""
  for name in (kind, text.get('model_type', '')):
    if not re.fullmatch(_LLAMAS, name):
      yield f'model_type is {name!r} there, and the decoder here is a Llama'
  act, window = text.get('hidden_act', 'silu'), text.get('sliding_window')
  if act != 'silu':
    yield f'hidden_act is {act!r} there, and a Llama has silu'
  if window is not None and window < c.max_length:
    yield (
      f'sliding_window is {window} there, and all {c.max_length} tokens are '
      f'seen here: set text.max_length to {window}'
    )


def _differ(prefix, found, keys, ours, skip='') -> Iterator[str]:
  for theirs, name in keys.items():
    there, here = found.get(theirs), getattr(ours, name)
    if there is not None and there != here and theirs != skip:
      yield f'{prefix}{theirs} is {there} there and {name} {here} here'


def _sight(kind, found, c) -> Iterator[str]:
  """What CLIP is, and what of it is looked at."""
  layer = found.get('mm_vision_select_layer')
  if layer not in (None, c.layer):
    yield f'mm_vision_select_layer is {layer} there and layer {c.layer} here'
  for key in ('mm_vision_select_feature', 'vision_feature_select_strategy'):
    if (part := found.get(key, 'patch')) not in ('patch', 'default'):
      yield f'{key} is {part!r} there, and here the patches alone are seen'
  tower = found if kind == 'clip_vision_model' else found.get('vision_config')
  if tower:
    yield from _differ('vision.', tower, _VISION, c)
    act = tower.get('hidden_act', 'quick_gelu')
    if act != 'quick_gelu':
      yield f'vision hidden_act is {act!r}, and CLIP here has quick_gelu'
    yield from _read_layer(found, tower, c)


def _read_layer(found, tower, c) -> Iterator[str]:
  """Which layer of the tower is looked at, counted from the first."""
  depth = tower.get('num_hidden_layers')
  layer = found.get('vision_feature_layer')
  if isinstance(layer, list):
    yield f'layers {layer} of the tower are read there, and one is here'
  if depth is None or not isinstance(layer, int):
    return
  there = layer if layer >= 0 else depth + 1 + layer
  here = c.depth + 1 + c.layer
  if there != here:
    yield f'layer {there} of the tower is read there and {here} here'


def _rotation(found, c) -> Iterator[str]:
  rope = found.get('rope_parameters') or found.get('rope_scaling') or {}
  theta = rope.get('rope_theta', found.get('rope_theta'))
  if theta is not None and theta != c.rope_theta:
    yield f'rope_theta is {theta} there and {c.rope_theta} here'
  kind = rope.get('rope_type', rope.get('type', 'default'))
  said = {'rope_factor': 1.0, 'rope_original': 0}
  if kind == 'linear':
    said['rope_factor'] = rope['factor']
  elif kind == 'llama3':
    said = {ours: rope[theirs] for theirs, ours in _LLAMA3.items()}
  elif kind != 'default':
    yield f'rotary positions of kind {kind!r} there, which are unknown here'
  for name, there in said.items():
    if there != getattr(c, name):
      yield f'{name} is {there} there and {getattr(c, name)} here'
