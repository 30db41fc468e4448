"""Llama, CLIP and LLaVA against transformers: the same weights and numbers."""

import jax
import numpy as np
import pytest
import transformers
from originals import (
  IMAGE,
  TEXT,
  assert_same,
  error,
  hugging_face,
  outcome,
  pictures,
  read,
  rows,
  scattered,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from rlhfv_jax import models
from rlhfv_jax.models import clip, llama, presets
from rlhfv_jax.models.config import TextConfig, VisionConfig

torch = pytest.importorskip('torch')

LLAMA3 = dict(
  kv_heads=2, rope_factor=8.0, rope_low=1.0, rope_high=4.0, rope_original=64
)
# One more than is read of it.
VIT = dict(kind='clip', patch=14, width=24, mlp=32, depth=5, heads=3)


def clip_config(size):
  return transformers.CLIPVisionConfig(
    hidden_size=VIT['width'],
    intermediate_size=VIT['mlp'],
    num_hidden_layers=VIT['depth'],
    num_attention_heads=VIT['heads'],
    image_size=size,
    patch_size=VIT['patch'],
  )


@pytest.mark.parametrize(
  'change',
  [dict(rope_factor=4.0), {**LLAMA3, 'tie_head': True}],
  ids=['linear', 'llama3-tied'],
)
def test_llama_equals_that_of_transformers(change):
  text = {**TEXT, **change}
  reference = scattered(transformers.LlamaForCausalLM(hugging_face(text)))
  params, gradients = read(reference)
  batch, filled, weight = rows([21, 13, 1])
  out = reference(
    torch.tensor(batch['tokens']),
    attention_mask=torch.tensor(filled).long(),
    output_hidden_states=True,
  )
  expected = outcome(out, batch['tokens'], weight)
  assert_same(
    models.build(dict(text=text)), params, batch, filled=filled,
    weight=weight, expected=expected, gradients=gradients(),
  )  # fmt: skip


@pytest.mark.parametrize('name', ['rlhfv_13b', 'llava15_7b', 'llama31_8b'])
def test_real_models_rotate_as_those_of_transformers(name):
  text = presets.preset(name)['model']['text']
  rates = LlamaRotaryEmbedding(hugging_face(text)).inv_freq.numpy()
  ours = llama.rotary_rates(TextConfig(**text))
  assert ours.shape == (64,)
  np.testing.assert_allclose(ours, rates, rtol=1e-6)


@pytest.mark.parametrize('size, layer', [(224, -2), (336, -2), (28, -1)])
def test_clip_equals_that_of_transformers(size, layer):
  reference = scattered(transformers.CLIPVisionModel(clip_config(size)))
  rng = np.random.default_rng(1)
  pixels = rng.normal(size=(2, size, size, 3)).astype(np.float32)
  with torch.no_grad():
    channels_first = torch.tensor(pixels.transpose(0, 3, 1, 2))
    out = reference(channels_first, output_hidden_states=True)
  expected = out.hidden_states[layer][:, 1:].numpy()
  unread = ['post_layernorm'] + ['layers.4'] * (layer == -2)
  config = VisionConfig(image_size=size, layer=layer, **VIT)
  tower = clip.Clip(config, 'float32', 'none')
  features = jax.jit(tower.apply)(
    {'params': read(reference, unread)[0]}, pixels
  )
  assert features.shape == (2, config.tokens, VIT['width'])
  assert np.abs(expected).max() > 1
  assert error(features, expected) <= 1e-4


def normalised(images):
  mean = [0.48145466, 0.4578275, 0.40821073]
  deviation = [0.26862954, 0.26130258, 0.27577711]
  pixels = (images / 255 - mean) / deviation
  return torch.tensor(pixels.transpose(0, 3, 1, 2)).float()


def llava(size, text, connector):
  """One of transformers; it always has two maps, so one needs an identity."""
  config = transformers.LlavaConfig(
    vision_config=clip_config(size),
    text_config=hugging_face(text),
    image_token_index=IMAGE,
    projector_hidden_act='gelu' if connector == 'mlp2x' else 'linear',
    vision_feature_layer=-2,
  )
  model = scattered(transformers.LlavaForConditionalGeneration(config))
  if connector == 'linear':
    second = model.model.multi_modal_projector.linear_2
    with torch.no_grad():
      second.weight.copy_(torch.eye(text['width']))
      second.bias.zero_()
  return model


@pytest.mark.parametrize(
  'size, connector, change', [(28, 'mlp2x', {}), (42, 'linear', LLAMA3)]
)
def test_llava_equals_that_of_transformers(size, connector, change):
  text = {**TEXT, **change}
  reference = llava(size, text, connector)
  params, gradients = read(
    reference, ['post_layernorm', 'vision_tower.encoder.layers.4']
  )
  batch, filled, weight = rows([24, 17, 12], (size // VIT['patch']) ** 2)
  batch['images'] = pictures(3, size)
  out = reference(
    torch.tensor(batch['tokens']),
    # The last row has no picture; ours is given one, and takes no notice.
    pixel_values=normalised(batch['images'][:2]),
    attention_mask=torch.tensor(filled).long(),
    output_hidden_states=True,
  )
  expected = outcome(out, batch['tokens'], weight)

  def connected(tree):
    if connector == 'mlp2x':
      return tree
    return tree | {'mm_projector': tree['mm_projector']['linear_1']}

  config = dict(
    text=text,
    vision=dict(image_size=size, **VIT),
    image_token=IMAGE,
    connector=connector,
  )
  assert_same(
    models.build(config), connected(params), batch, filled=filled,
    weight=weight, expected=expected, gradients=connected(gradients()),
  )  # fmt: skip
