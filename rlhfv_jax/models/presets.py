"""The released models as numbers: what they are made of, and what they read.

`parameters` counts what is built: the CLIP layers behind the one that is read,
and its last norm, are not.
"""

import copy
import difflib
from typing import Any

# LLaMA-1 became Vicuna v1.0 and Llama-2 v1.5; Llama 3 is 3.1 here.
_LLAMA1 = dict(vocab_size=32000, rms_eps=1e-6, max_length=2048)
_LLAMA2 = dict(vocab_size=32000, rms_eps=1e-5, max_length=4096)
_LLAMA3 = dict(
  vocab_size=128256, rms_eps=1e-5, max_length=131072, rope_theta=500000.0,
  rope_factor=8.0, rope_low=1.0, rope_high=4.0, rope_original=8192,
)  # fmt: skip
_1B = dict(width=2048, mlp=8192, depth=16, heads=32, kv_heads=8)
_7B = dict(width=4096, mlp=11008, depth=32, heads=32, kv_heads=32)
_8B = dict(width=4096, mlp=14336, depth=32, heads=32, kv_heads=8)
_13B = dict(width=5120, mlp=13824, depth=40, heads=40, kv_heads=40)

_VIT_L = dict(width=1024, mlp=4096, depth=24, heads=16)


def _clip(size: int) -> dict[str, Any]:
  return dict(kind='clip', image_size=size, patch=14, **_VIT_L, layer=-2)


def _muffin(size: int, parameters: int) -> dict[str, Any]:
  """Four more words than Vicuna has: [PAD], and three around the picture."""
  tower = dict(kind='beit3', image_size=size, patch=16, **_VIT_L)
  return {
    'model': {
      'text': _LLAMA1 | _13B | {'vocab_size': 32004},
      'vision': tower | {'queries': 64, 'query_rows': 1024},
      'connector': 'linear',
      'image_token': 32001,  # <im_patch>
    },
    'template': 'muffin',
    'image': {'size': size, 'policy': 'squash'},
    'parameters': parameters,
  }


def _llava(
  text: dict[str, Any], size: int, connector: str, parameters: int
) -> dict[str, Any]:
  """The placeholder has no word of its own: its id is past the vocabulary."""
  return {
    'model': {
      'text': _LLAMA2 | text,
      'vision': _clip(size),
      'connector': connector,
      'image_token': 32000,
    },
    'template': 'vicuna_v1',
    'image': {'size': size, 'policy': 'pad'},
    'parameters': parameters,
  }


def _blind(
  text: dict[str, Any], template: str, parameters: int
) -> dict[str, Any]:
  return {
    'model': {'text': text, 'vision': None, 'image_token': None},
    'template': template,
    'image': {'size': 0, 'policy': 'squash'},  # none is read
    'parameters': parameters,
  }


PRESETS = {
  'muffin_13b': _muffin(672, 13_629_979_648),
  'rlhfv_13b': _muffin(448, 13_628_976_128),
  'llava15_7b': _llava(_7B, 336, 'mlp2x', 7_050_304_512),
  'llava15_13b': _llava(_13B, 336, 'mlp2x', 13_338_241_024),
  'llava_rlhf_7b': _llava(_7B, 224, 'linear', 7_033_195_520),
  'llava_rlhf_13b': _llava(_13B, 336, 'linear', 13_312_021_504),
  'vicuna_7b': _blind(_LLAMA2 | _7B, 'vicuna_v1', 6_738_415_616),
  'vicuna_13b': _blind(_LLAMA2 | _13B, 'vicuna_v1', 13_015_864_320),
  'llama31_8b': _blind(_LLAMA3 | _8B, 'llama3', 8_030_261_248),
  'llama32_1b': _blind(
    _LLAMA3 | _1B | {'rope_factor': 32.0, 'tie_head': True},
    'llama3',
    1_235_814_400,
  ),
}


def preset(name: str) -> dict[str, Any]:
  """model (what `build` reads), template, image and parameters of a name."""
  if name not in PRESETS:
    near = difflib.get_close_matches(name, PRESETS, 1) or [', '.join(PRESETS)]
    raise ValueError(f'no model {name!r}; it may be: {near[0]}')
  return copy.deepcopy(PRESETS[name])
