"""Every tensor of a released model has its place, under one name a format."""

from pathlib import Path

import numpy as np
import pytest
import transformers
from checkpoints import LINEAR, LLAVA, MUFFIN

from rlhfv_jax.convert import match, plan, tables
from rlhfv_jax.convert.shards import Tensor
from rlhfv_jax.models.config import VLMConfig
from rlhfv_jax.models.presets import PRESETS, preset

torch = pytest.importorskip('torch')


def originals_of(name):
  """Names and shapes of a released checkpoint; no numbers."""
  c = VLMConfig.of(preset(name)['model'])
  with torch.device('meta'):
    if c.vision is None or c.vision.kind == 'beit3':
      return transformers.LlamaForCausalLM(llama_config(c.text)).state_dict()
    config = transformers.LlavaConfig(
      text_config=llama_config(c.text),
      vision_config=transformers.CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
        num_attention_heads=16, image_size=c.vision.image_size, patch_size=14,
      ),
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config).state_dict()


def llama_config(c):
  return transformers.LlamaConfig(
    vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=c.mlp,
    num_hidden_layers=c.depth, num_attention_heads=c.heads,
    num_key_value_heads=c.kv_heads, tie_word_embeddings=c.tie_head,
  )  # fmt: skip


def muffin_names(c):
  """Every tensor of Muffin's tower, as its checkpoints list them."""

  def pair(name, *shape):
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}

  found = {
    'model.query': (64, 1024),
    **pair('model.mm_projector', 5120, 1024),
  }
  prefix = 'model.vision_tower.beit3.'
  found |= {
    f'{prefix}vision_embed.cls_token': (1, 1, 1024),
    f'{prefix}vision_embed.proj.weight': (1024, 3, 16, 16),
    f'{prefix}vision_embed.proj.bias': (1024,),
    f'{prefix}encoder.embed_positions.A.weight': (
      {448: 787, 672: 1767}[c.image_size], 1024
    ),
    f'{prefix}encoder.embed_positions.B.weight': (1024, 1024),
  }  # fmt: skip
  for x in 'AB':
    found |= pair(f'{prefix}encoder.layer_norm.{x}', 1024)
    for n in range(24):
      at = f'{prefix}encoder.layers.{n}.'
      for name in 'kvq':
        found |= pair(f'{at}self_attn.{name}_proj.{x}', 1024, 1024)
      found |= pair(f'{at}self_attn.out_proj.{x}', 1024, 1024)
      found |= pair(f'{at}self_attn.inner_attn_ln.{x}', 1024)
      found |= pair(f'{at}self_attn_layer_norm.{x}', 1024)
      found |= pair(f'{at}final_layer_norm.{x}', 1024)
      found |= pair(f'{at}ffn.{x}.fc1', 4096, 1024)
      found |= pair(f'{at}ffn.{x}.fc2', 1024, 4096)
      found |= pair(f'{at}ffn.{x}.ffn_layernorm', 4096)
  return found


@pytest.mark.parametrize('name', PRESETS)
def test_every_tensor_of_a_released_model_has_its_place(name):
  c = VLMConfig.of(preset(name)['model'])
  shapes = {path: x.shape for path, x in plan.abstract(c).items()}
  theirs = {k: tuple(x.shape) for k, x in originals_of(name).items()}
  if c.vision is not None and c.vision.kind == 'beit3':
    theirs |= muffin_names(c.vision)
    count = sum(int(np.prod(s)) for s in theirs.values())
    assert count == preset(name)['parameters']
  tensors = {
    k: Tensor(Path('model.bin'), s, np.dtype('f4')) for k, s in theirs.items()
  }
  found = match.match(tensors, shapes, c)
  assert not found.problems
  assert not match.missing(shapes, [found], c)


@pytest.mark.parametrize('format', tables.FORMATS)
@pytest.mark.parametrize('config', [LLAVA, LINEAR, MUFFIN])
def test_a_table_has_one_name_for_each_tensor(format, config):
  c = VLMConfig.of(config)
  shapes = {path: x.shape for path, x in plan.abstract(c).items()}
  table = tables.slots(shapes, tables.FORMATS[format], c)
  places = {(slot.path, slot.layer) for slot in table.values()}
  assert len(places) == len(table) > 0
  rng = np.random.default_rng(0)
  for slot in table.values():
    x = rng.normal(size=slot.shape)
    ours = tables.to_ours(x, slot.path)
    leaf = shapes[slot.path]
    assert ours.shape == (leaf if slot.layer is None else leaf[1:])
    np.testing.assert_array_equal(tables.to_theirs(ours, slot.path, c), x)
