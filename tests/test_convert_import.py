"""Weights in: every format of a model gives the same numbers, to the bit."""

import tracemalloc

import jax
import numpy as np
import pytest
import transformers
from checkpoints import (
  BEIT3,
  LINEAR,
  LLAVA,
  MUFFIN,
  TEXT,
  beit3,
  decoder,
  expected,
  file,
  llava,
  muffin,
  shards,
  state,
)
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from originals import error, tree_of

from rlhfv_jax import convert, models, sharding
from rlhfv_jax.convert import plan, tables, words
from rlhfv_jax.models.beit3 import Beit3, resize_positions
from rlhfv_jax.models.config import VisionConfig, VLMConfig

torch = pytest.importorskip('torch')


def assert_identical(a, b):
  """The same leaves, dtypes and bits."""
  a, b = flatten_dict(a, sep='/'), flatten_dict(b, sep='/')
  assert a.keys() == b.keys()
  for name, x in a.items():
    x, y = np.asarray(x), np.asarray(b[name])
    assert x.dtype == y.dtype and x.shape == y.shape, name
    assert x.tobytes() == y.tobytes(), name


@pytest.mark.parametrize('suffix', ['.bin', '.safetensors'])
@pytest.mark.parametrize(
  'layout', ['hf', 'hf5', 'hf_state', 'hf5_state', 'llava']
)
def test_every_layout_of_llava_gives_its_numbers(tmp_path, layout, suffix):
  shards(tmp_path, state(layout), suffix=suffix)
  assert_identical(convert.import_weights(tmp_path, LLAVA), expected())


def test_what_transformers_saves_is_read(tmp_path):
  llava().save_pretrained(tmp_path, max_shard_size='50KB')
  assert len(list(tmp_path.glob('*.safetensors'))) > 2
  assert_identical(convert.import_weights(tmp_path, LLAVA), expected())


def test_the_numbers_are_those_that_transformers_computes_with(tmp_path):
  llava().save_pretrained(tmp_path)
  params = convert.import_weights(tmp_path, LLAVA)
  pictures = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), 'u1')
  model = models.build(LLAVA)
  ours = model.apply({'params': params}, pictures, method='encode')
  normal = transformers.CLIPImageProcessor(
    do_resize=False, do_center_crop=False
  )
  pixels = normal(list(pictures), return_tensors='pt')['pixel_values']
  with torch.no_grad():
    theirs = llava().get_image_features(pixels).pooler_output
  assert error(ours, torch.stack(list(theirs))) <= 1e-4


def test_llava_rlhf_brings_no_tower_and_one_linear_layer(tmp_path):
  inside = state('llava', 'linear')
  inside = {k: x for k, x in inside.items() if 'vision_tower' not in k}
  shards(tmp_path / 'llava', inside)
  tower = transformers.CLIPVisionModel(llava().config.vision_config)
  tower.load_state_dict(llava().model.vision_tower.state_dict())
  tower.save_pretrained(tmp_path / 'clip')
  params = convert.import_weights(
    [tmp_path / 'llava', tmp_path / 'clip'], LINEAR
  )
  wanted = expected()
  wanted['mm_projector'] = wanted['mm_projector']['linear_1']
  assert_identical(params, wanted)


def test_vicuna_the_whole_of_clip_and_a_connector_make_a_llava(tmp_path):
  decoder().save_pretrained(tmp_path / 'vicuna')
  clip = transformers.CLIPModel(
    transformers.CLIPConfig(
      vision_config=llava().config.vision_config.to_dict(),
      text_config=dict(hidden_size=8, num_hidden_layers=1, vocab_size=9,
                       num_attention_heads=2, intermediate_size=8),
    )
  )  # fmt: skip
  file(tmp_path / 'clip' / 'pytorch_model.bin', clip.state_dict())
  connector = {k: x for k, x in state('llava').items() if 'mm_proj' in k}
  only = file(tmp_path / 'mm_projector.bin', connector)
  params = convert.import_weights(
    [tmp_path / 'vicuna', tmp_path / 'clip', only], LLAVA
  )
  words = params['language_model']['embed_tokens']['embedding']
  theirs = decoder().model.embed_tokens.weight.detach()
  np.testing.assert_array_equal(words, theirs)
  seen = params['vision_tower']['encoder']['layers']['mlp']['fc2']['kernel']
  layers = clip.vision_model.encoder.layers[:2]
  kernels = [layer.mlp.fc2.weight.detach().T for layer in layers]
  np.testing.assert_array_equal(seen, np.stack(kernels))
  assert_identical(params['mm_projector'], expected()['mm_projector'])


def test_muffin_sees_what_torchscale_saw(tmp_path):
  shards(tmp_path, muffin(), number=6)
  params = convert.import_weights(tmp_path, MUFFIN)
  _, saved = beit3('')
  tower = Beit3(VisionConfig(**BEIT3), 'float32', 'none')
  seen = jax.jit(tower.apply)(
    {'params': params['vision_tower']}, saved['pixels'], params['query']
  )
  assert error(seen, saved['expected']) <= 1e-4
  np.testing.assert_array_equal(params['query'], saved['query'])
  theirs = decoder(vocab_size=71).state_dict()
  np.testing.assert_array_equal(
    params['language_model']['lm_head']['kernel'], theirs['lm_head.weight'].T
  )


def test_beit3_as_microsoft_gives_it_away_serves_another_resolution(tmp_path):
  """With a Vicuna that lacks Muffin's four words; the rest is drawn."""
  named, saved = beit3('beit3')
  beside = {
    'beit3.text_embed.weight': torch.zeros(9, 16),
    'beit3.vision_embed.mask_token': torch.zeros(1, 1, 16),
    'mim_head.weight': torch.zeros(7, 16),
    'mim_head.bias': torch.zeros(7),
    'mlm_head.weight': torch.zeros(7, 16),
    'mlm_head.bias': torch.zeros(7),
  }
  tower = file(tmp_path / 'beit3.pth', {'model': named | beside})
  decoder().save_pretrained(tmp_path / 'vicuna')
  config = {**MUFFIN, 'vision': {**BEIT3, 'image_size': 56}}
  fresh = ['query', 'mm_projector.*', '.*embed_tokens.*', '.*lm_head.*']
  params = convert.import_weights(
    [tmp_path / 'vicuna', tower], config, fresh=fresh
  )
  table = named['beit3.encoder.embed_positions.A.weight'].numpy()
  seen = params['vision_tower']['encoder']['embed_positions']['A']['embedding']
  assert len(table) == 3 + 3**2 and len(seen) == 3 + 7**2
  np.testing.assert_array_equal(seen, resize_positions(table, patches=49))
  assert np.abs(params['query']).max() > 0
  words = params['language_model']['embed_tokens']['embedding']
  theirs = decoder().model.embed_tokens.weight.detach().numpy()
  np.testing.assert_array_equal(words[:67], theirs)
  np.testing.assert_allclose(words[67:], [theirs.mean(0)] * 4, atol=1e-6)


@pytest.mark.parametrize(
  'suffix, theirs, asked, ours',
  [
    ('.bin', 'bfloat16', None, 'bfloat16'),
    ('.safetensors', 'bfloat16', None, 'bfloat16'),
    ('.bin', 'float16', None, 'float32'),  # which holds it
    ('.safetensors', 'float16', 'bfloat16', 'bfloat16'),
    ('.bin', 'bfloat16', 'float32', 'float32'),
  ],
)
def test_numbers_keep_their_dtype(tmp_path, suffix, theirs, asked, ours):
  dtype = getattr(torch, theirs)
  inside = {k: x.to(dtype) for k, x in state('llava').items()}
  file(tmp_path / f'model{suffix}', inside)
  params = convert.import_weights(tmp_path, LLAVA, dtype=asked)
  wanted = jax.tree.map(
    lambda x: np.asarray(
      jax.numpy.asarray(torch.tensor(x).to(dtype).float().numpy(), ours)
    ),
    expected(),
  )
  assert_identical(params, wanted)


def test_arrays_are_born_on_the_devices_they_belong_to(tmp_path):
  shards(tmp_path, state('hf'))
  mesh = sharding.make_mesh((2, 2, 2))
  # The padded table of 67 words divides over no two devices.
  config = {**LLAVA, 'text': {**TEXT, 'vocab_size': 128}, 'image_token': 67}
  params = convert.import_weights(tmp_path, config, mesh=mesh)
  assert_identical(params, expected(128))
  places = flatten_dict(sharding.specs(params, mesh))
  for name, x in flatten_dict(params).items():
    assert x.sharding == places[name], name
  kernel = params['language_model']['layers']['mlp']['up_proj']['kernel']
  assert kernel.addressable_shards[0].data.shape == (3, 16, 24)


def test_the_host_never_holds_a_stack_of_layers(tmp_path):
  """Beside leaves that are one tensor, it holds a few tensors at a time."""
  text = {**TEXT, 'width': 128, 'mlp': 512, 'depth': 12, 'heads': 4,
          'kv_heads': 4}  # fmt: skip
  config = VLMConfig.of({'text': text})
  shapes = {path: x.shape for path, x in plan.abstract(config).items()}
  table = tables.slots(shapes, tables.FORMATS['llama'], config)
  tensors = {name: torch.randn(slot.shape) for name, slot in table.items()}
  shards(tmp_path, tensors, suffix='.safetensors')
  convert.import_weights(tmp_path, {'text': text})  # compiles
  tracemalloc.start()
  params = convert.import_weights(tmp_path, {'text': text})
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  sizes = {k: x.nbytes for k, x in flatten_dict(params, sep='/').items()}
  single = sum(n for k, n in sizes.items() if '/layers/' not in k)
  largest = max(n for k, n in sizes.items() if '/layers/' in k)
  assert peak <= single + largest / 12 * 3 + 2**20 < sum(sizes.values()) / 3


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 2000), inside=st.booleans(), seed=st.integers(0, 9))
def test_padding_of_words_is_added_and_cut_off(size, inside, seed):
  token = size - 1 if inside else size
  config = VLMConfig.of(
    {**LLAVA, 'text': {**TEXT, 'vocab_size': size}, 'image_token': token}
  )
  rows, leaf = words.padded(config), words.LEAVES[0]
  assert words.placeholder(config) == token < rows
  assert rows == size if inside else rows % 64 == 0
  assert words.misfit(rows, size, leaf, []) is None
  table = np.random.default_rng(seed).normal(size=(size, 3)).astype('f4')
  wide = words.resize(table, rows)
  np.testing.assert_array_equal(words.resize(wide, size), table)
  # What is added is never the likeliest word.
  logits = wide @ np.random.default_rng(seed + 1).normal(size=3)
  assert logits[size:].max(initial=-np.inf) <= logits[:size].max() + 1e-6


def test_a_tied_head_is_read_once(tmp_path):
  tied = decoder(tie_head=True)
  words = tied.state_dict()
  assert words['lm_head.weight'] is not None
  file(tmp_path / 'pytorch_model.bin', words)
  text = {**TEXT, 'tie_head': True}
  params = convert.import_weights(tmp_path, {'text': text})
  assert 'lm_head' not in params['language_model']
  named = {k: x.numpy() for k, x in words.items() if k != 'lm_head.weight'}
  named = {k.replace('model.', 'language_model.'): x for k, x in named.items()}
  assert_identical(params, tree_of(named))
  words['lm_head.weight'] = words['lm_head.weight'] + 1
  file(tmp_path / 'pytorch_model.bin', words)
  with pytest.raises(ValueError, match=r'lm_head\.weight.*tie_head to False'):
    convert.import_weights(tmp_path, {'text': text})
