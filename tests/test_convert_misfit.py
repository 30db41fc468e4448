"""A whole checkpoint that is not this model: what differs is said by name."""

import json
import shutil

import jax
import numpy as np
import pytest
from checkpoints import (
  BEIT3,
  CLIP,
  LINEAR,
  LLAVA,
  MUFFIN,
  TEXT,
  beit3,
  decoder,
  file,
  llava,
  muffin,
  shards,
  state,
)
from test_convert_bad import refused
from test_convert_export import adapted, made

from rlhfv_jax import convert
from rlhfv_jax.data import tokenizer

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  """A whole LLaVA-1.5 in shards."""
  return shards(tmp_path_factory.mktemp('original'), state('llava'))


@pytest.fixture
def copy(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'copy')


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """The same as transformers saves it, with its config.json."""
  folder = tmp_path_factory.mktemp('saved')
  llava().save_pretrained(folder)
  return folder


def changed(tensors, **changes):
  """Tensors with some of them taken out (None) or put in."""
  found = {**tensors, **changes}
  return {name: x for name, x in found.items() if x is not None}


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path):
  name = 'model.layers.1.mlp.up_proj.weight'
  path = tmp_path / 'model.safetensors'
  for change, words in (
    ({name: None},
     (str(tmp_path), '1 tensors are missing', f'{name} (48, 32)')),
    ({name: torch.ones(7, 5)},
     (name, 'model.safetensors is (7, 5), and the model wants (48, 32)')),
    ({name: torch.ones(48)}, (name, '(48,)', '(48, 32)')),
    ({'model.layers.3.mlp.up_proj.weight': torch.ones(48, 32)},
     ('model.layers.3.mlp.up_proj.weight (48, 32)', 'has no place')),
    ({'model.layers.0.self_attn.q_proj.bias': torch.ones(32)},
     ('q_proj.bias (32,)', 'has no place')),
  ):  # fmt: skip
    file(path, changed(state('llava'), **change))
    refused(tmp_path, *words)


def test_a_checkpoint_of_another_size_or_family(saved, tmp_path):
  for text, words in (
    ({'depth': 4}, ('num_hidden_layers is 3 there and depth 4 here',)),
    ({'width': 64}, ('norm.weight in', '(32,)', '(64,)')),
    ({'heads': 8, 'kv_heads': 4}, ('num_attention_heads is 4 there',)),
    ({'rms_eps': 1e-6}, ('rms_norm_eps is 1e-05 there and rms_eps 1e-06',)),
    ({'rope_theta': 5e5}, ('rope_theta is 10000.0 there and 500000.0 here',)),
    ({'rope_factor': 2.0}, ('rope_factor is 1.0 there and 2.0 here',)),
  ):
    config = {**LLAVA, 'text': {**TEXT, **text}}
    refused(saved, str(saved), *words, '--model', config=config)
  config = {**LLAVA, 'vision': {**CLIP, 'heads': 4}}
  refused(saved, 'vision.num_attention_heads is 3 there', config=config)
  config = {**LLAVA, 'vision': {**CLIP, 'layer': -1}}
  refused(saved, 'layer 2 of the tower is read there and 3 here', config=config)
  refused(saved, 'connector is mlp2x there and linear here', config=LINEAR)
  refused(saved, 'vision', 'has no place', config=MUFFIN)
  gpt = {'transformer.h.0.attn.c_attn.weight': torch.ones(2, 2)}
  file(tmp_path / 'pytorch_model.bin', gpt)
  refused(tmp_path, 'transformer.h.0.attn', 'another family')


@pytest.mark.parametrize(
  'said, words',
  [
    ({'model_type': 'gemma'}, "model_type is 'gemma' there"),
    ({'text_config': {'model_type': 'qwen2'}}, "model_type is 'qwen2' there"),
    ({'hidden_act': 'gelu'}, "hidden_act is 'gelu' there"),
    ({'sliding_window': 8}, 'set text.max_length to 8'),
    ({'mm_vision_select_feature': 'cls_patch'}, "is 'cls_patch' there"),
    ({'vision_feature_select_strategy': 'full'}, "is 'full' there"),
    (
      {'vision_feature_layer': [-2, -1], 'vision_config': {'patch_size': 4}},
      'layers [-2, -1] of the tower are read there',
    ),
  ],
)
def test_what_shapes_do_not_tell_is_read_off_the_config(copy, said, words):
  (copy / 'config.json').write_text(json.dumps(said))
  refused(copy, str(copy), 'config.json: ', words, '--model')


def test_a_two_layer_connector_is_not_read_as_one(tmp_path):
  file(tmp_path / 'model.safetensors', state('hf'))
  refused(
    tmp_path, 'multi_modal_projector.linear_2', 'weights of its own',
    "connector to 'mlp2x'", config=LINEAR,
  )  # fmt: skip


@pytest.mark.parametrize(
  'rows, words',
  [
    (
      71,
      '67 words, and the model wants 71',
    ),
    (300, '67 words, and the model wants 300'),
    (50, '67 words, and the model wants 50'),
  ],
)
def test_a_vocabulary_of_another_size(original, rows, words):
  config = {**LLAVA, 'text': {**TEXT, 'vocab_size': rows}, 'image_token': rows}
  said = refused(original, 'embed_tokens', words, config=config)
  assert ('fresh=' in said) == (rows == 71)


def test_a_vocabulary_that_disagrees_with_the_tokenizer(copy):
  words = [f'w{i}' for i in 'abcdefghijklmnopqrstuvwxyz']
  small = tokenizer.word_tokenizer(words)
  tokenizer.save(small, copy)
  convert.import_weights(copy, LLAVA)
  large = tokenizer.word_tokenizer([a + b for a in words for b in words])
  tokenizer.save(large, copy)
  refused(copy, f'tokenizer knows {len(large)} words', '67 rows')


def test_an_image_size_that_the_positions_cannot_serve(original, tmp_path):
  config = {**LLAVA, 'vision': {**CLIP, 'image_size': 24}}
  refused(
    original, 'position_embedding.weight', '(10, 24)', '(37, 24)',
    'pictures of 12 px', 'asks for 24', 'image_size to 12', config=config,
  )  # fmt: skip
  named = beit3('beit3')[0]
  positions = 'beit3.encoder.embed_positions.A.weight'
  named[positions] = torch.ones(3 + 10, 16)
  path = file(tmp_path / 'beit3.pth', {'model': named})
  refused(path, positions, '(13, 16)', '(12, 16)', config=MUFFIN)
  named = muffin()
  shorter = {**MUFFIN, 'vision': {**BEIT3, 'query_rows': 0}}
  shards(tmp_path / 'muffin', named)
  refused(
    tmp_path / 'muffin', 'embed_positions.B.weight', '(9, 16)', '(7, 16)',
    config=shorter,
  )  # fmt: skip


def test_a_part_that_is_missing_says_where_it_may_come_from(tmp_path):
  inside = {k: x for k, x in state('llava').items() if 'tower' not in k}
  file(tmp_path / 'model.safetensors', inside)
  tower = 'openai/clip-vit-large-patch14-336'
  (tmp_path / 'config.json').write_text(json.dumps({'mm_vision_tower': tower}))
  refused(tmp_path, 'tensors are missing', 'vision_tower', f'Import {tower}')
  decoder().save_pretrained(tmp_path / 'vicuna')
  tower = file(tmp_path / 'clip.safetensors', {
    k.replace('model.vision_tower.vision_tower.', ''): x
    for k, x in state('llava').items() if 'vision_tower' in k
  })  # fmt: skip
  refused([tmp_path / 'vicuna', tower], 'mm_projector', 'fresh="mm_projector')


def test_a_part_that_two_sources_have(original):
  refused([original, original], 'both have', 'leave one of them out')


def test_eight_bits_and_mixed_layers_are_not_guessed_at(tmp_path):
  inside = state('llava')
  name = 'model.layers.1.mlp.up_proj.weight'
  path = tmp_path / 'model.safetensors'
  file(path, changed(inside, **{name: inside[name].to(torch.float8_e4m3fn)}))
  refused(tmp_path, 'model.safetensors', name, 'F8_E4M3', 'not quantised')
  file(path, changed(inside, **{name: inside[name].to(torch.int8)}))
  refused(tmp_path, name, 'is int8', 'not quantised')
  file(path, changed(inside, **{name: inside[name].bfloat16()}))
  refused(tmp_path, 'layers/mlp/up_proj/kernel', 'bfloat16', 'with dtype')
  params = convert.import_weights(tmp_path, LLAVA, dtype='float32')
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('f4')}


def test_adapters_that_do_not_fit(tmp_path):
  how = dict(format='peft', base='org/base')
  convert.export_weights(made('llava'), LLAVA, tmp_path / 'base')
  convert.export_weights(adapted('llava'), LLAVA, tmp_path / 'lora', **how)
  settings = tmp_path / 'lora/adapter_config.json'
  fine = json.loads(settings.read_text())
  settings.write_text(json.dumps(fine | {'use_dora': True}))
  refused([tmp_path / 'base', tmp_path / 'lora'], 'use_dora = True', 'PEFT')
  settings.write_text(json.dumps(fine))
  convert.export_weights(adapted('llama3'), {'text': TEXT}, tmp_path / 'other',
                         **how)  # fmt: skip
  short = {**LLAVA, 'text': {**TEXT, 'mlp': 24}}
  refused(tmp_path / 'lora', 'down_proj', '(3, 48)', '(3, 24)', config=short)
  deep = {**LLAVA, 'text': {**TEXT, 'depth': 4}}
  refused(tmp_path / 'lora', 'layers.3', 'is missing', config=deep)
