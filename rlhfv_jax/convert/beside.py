"""What stands beside exported weights: tokenizer, processor, their settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from rlhfv_jax import files
from rlhfv_jax.convert import words
from rlhfv_jax.convert.chat_template import jinja
from rlhfv_jax.data import tokenizer as tokenizers
from rlhfv_jax.data.templates import IMAGE, template
from rlhfv_jax.models.config import VLMConfig

# What CLIP was trained on: mean and deviation of red, green, blue.
_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]


def write(
  folder: Path,
  config: VLMConfig,
  tokenizer: PreTrainedTokenizerBase,
  *,
  chat: str,
  policy: str,
) -> None:
  """All that transformers needs beside the model to answer about a picture."""
  sees = config.vision is not None
  tokenizer = _that_begins(copy.deepcopy(tokenizer))
  if sees:
    _give_placeholder(tokenizer, config)
  tokenizers.save(tokenizer, folder)
  text = jinja(template(chat), tokenizer, bos=not sees)
  files.write_text(folder / 'chat_template.jinja', text)
  ends = list(tokenizers.end_ids(tokenizer, template(chat)))
  pad = tokenizer.pad_token_id
  files.write_json(folder / 'generation_config.json', {
    'bos_token_id': tokenizer.bos_token_id,
    'eos_token_id': ends[0] if len(ends) == 1 else ends,
    'pad_token_id': ends[0] if pad is None else pad,
  })  # fmt: skip
  if sees:
    image = image_processor(config.vision.image_size, policy)
    files.write_json(folder / 'preprocessor_config.json', image)
    files.write_json(folder / 'processor_config.json', {
      'processor_class': 'LlavaProcessor',
      'image_token': IMAGE,
      'patch_size': config.vision.patch,
      'num_additional_image_tokens': 1,  # the class token, which is left out
      'vision_feature_select_strategy': 'default',
    })  # fmt: skip


def image_processor(size: int, policy: str) -> dict[str, Any]:
  """Our image policies in the words of transformers."""
  square = {'height': size, 'width': size}
  known = {
    'pad': {'do_pad': True, 'size': {'shortest_edge': size}},
    'crop': {'do_pad': False, 'size': {'shortest_edge': size}},
    'squash': {'do_pad': False, 'size': square},
  }
  if policy not in known:
    raise ValueError(f'image policy {policy!r}: one of {", ".join(known)}')
  return {
    'image_processor_type': 'LlavaImageProcessor',
    'processor_class': 'LlavaProcessor',
    'do_convert_rgb': True,
    'do_resize': True,
    'resample': 3,  # bicubic
    **known[policy],
    'do_center_crop': True,
    'crop_size': square,
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'image_mean': _MEAN,
    'image_std': _STD,
  }


def _that_begins(tokenizer):
  """The tokenizer, so that a text begins with the token it began with here."""
  bos = tokenizer.bos_token
  if bos and tokenizer('a')['input_ids'][0] != tokenizer.bos_token_id:
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
      single=f'{bos} $A',
      pair=f'{bos} $A {bos} $B',
      special_tokens=[(bos, tokenizer.bos_token_id)],
    )
  return tokenizer


def _give_placeholder(tokenizer, config):
  """A token for the picture, at the id that the model has for it."""
  wanted = words.placeholder(config)
  if tokenizers.token_id(tokenizer, IMAGE) is None:
    tokenizer.add_tokens([IMAGE], special_tokens=True)
  if (found := tokenizers.token_id(tokenizer, IMAGE)) != wanted:
    raise ValueError(
      f'{IMAGE} comes to id {found} in the tokenizer, and the model has its '
      f'placeholder at {wanted}: give the tokenizer that it was trained with, '
      'or set image_token'
    )
