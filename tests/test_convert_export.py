"""Weights out: transformers and peft compute what we do; in again, the bits."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from checkpoints import LINEAR, LLAVA, MUFFIN, TEXT
from originals import error
from test_convert_import import assert_identical

from rlhfv_jax import convert, models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.generate import Decoding, generate
from rlhfv_jax.models import lora
from rlhfv_jax.models.vlm import _normalize

torch = pytest.importorskip('torch')

LLAMA3 = dict(text={**TEXT, 'rope_factor': 8.0, 'rope_original': 32})
LINEAR_ROPE = dict(text={**TEXT, 'rope_factor': 4.0, 'tie_head': True})
CONFIGS = {
  'llava': LLAVA,
  'llava-rlhf': LINEAR,
  'muffin': MUFFIN,
  'llama3': LLAMA3,
  'llama-tied': LINEAR_ROPE,
}
ADAPTED = r'.*language_model.*(q_proj|v_proj|o_proj|down_proj)'


@functools.cache
def made(name, dtypes='float32'):
  """Random parameters; 'mixed' has a bfloat16 decoder and a float32 rest."""
  rng = np.random.default_rng(7)
  init = functools.partial(models.init, models.build(CONFIGS[name]))

  def leaf(path, x):
    center = float(path[-1].key == 'weight')
    values = rng.normal(center, 0.2, x.shape)
    low = dtypes == 'mixed' and path[0].key == 'language_model'
    return jnp.asarray(values, jnp.bfloat16 if low else jnp.float32)

  return jax.tree_util.tree_map_with_path(
    leaf, jax.eval_shape(init, jax.random.key(0))
  )


def adapted(name, **how):
  """With adapters that say something, on a base that stays."""
  params = lora.attach(
    made(name, **how), jax.random.key(1), rank=3, alpha=7.0, targets=ADAPTED
  )
  rng = np.random.default_rng(8)
  return jax.tree_util.tree_map_with_path(
    lambda path, x: (
      jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32)
      if path[-1].key == 'lora_b'
      else x
    ),
    params,
  )


def asked(name, length=20):
  """A row of words, with a picture where the model sees."""
  config = models.build(CONFIGS[name]).config
  rng = np.random.default_rng(9)
  tokens = rng.integers(1, 66, (1, length)).astype('i4')
  lengths = np.array([[length, 0]], 'i4')
  arrays = {'tokens': tokens, 'lengths': lengths}
  if config.vision is not None:
    tokens[0, 2 : 2 + config.image_tokens] = config.image_token
    size = config.vision.image_size
    arrays['images'] = rng.integers(0, 256, (1, size, size, 3), 'u1')
  return Batch(arrays, (length, 0, 1))


def ours(name, params, batch):
  model = models.build(CONFIGS[name])
  hidden = models.hidden(model, params, batch)
  return np.asarray(model.apply({'params': params}, hidden, method='logits'))


def inputs(batch):
  given = {'input_ids': torch.tensor(batch['tokens']).long()}
  if 'images' in batch:
    pixels = np.asarray(_normalize(batch['images'], 'clip'))
    given['pixel_values'] = torch.tensor(pixels.transpose(0, 3, 1, 2))
  return given


def theirs(model, batch):
  with torch.no_grad():
    return model(**inputs(batch)).logits[..., : TEXT['vocab_size']].numpy()


def opened(path, name):
  """What transformers makes of a folder, with nothing missing or left over."""
  sees = CONFIGS[name].get('vision') is not None
  kind = (transformers.AutoModelForImageTextToText if sees
          else transformers.AutoModelForCausalLM)  # fmt: skip
  model, found = kind.from_pretrained(path, output_loading_info=True)
  assert not any(found.values()), found
  return model.eval()


@pytest.mark.parametrize('name', [n for n in CONFIGS if n != 'muffin'])
def test_transformers_gives_the_same_logits(tmp_path, name):
  convert.export_weights(made(name), CONFIGS[name], tmp_path / 'out')
  batch = asked(name)
  wanted = ours(name, made(name), batch)
  assert error(theirs(opened(tmp_path / 'out', name), batch), wanted) <= 1e-4


@pytest.mark.parametrize(
  'name, dtypes',
  [
    ('llava', 'mixed'),
    ('llava-rlhf', 'float32'),
    ('muffin', 'mixed'),
    ('llama3', 'mixed'),
    ('llama-tied', 'float32'),
  ],
)
def test_an_export_comes_in_again_to_the_bit(tmp_path, name, dtypes):
  params = made(name, dtypes)
  format = 'muffin' if name == 'muffin' else 'hf'
  convert.export_weights(
    params, CONFIGS[name], tmp_path / 'out', format=format, shard_bytes=40_000
  )
  written = list(tmp_path.glob('out/*.safetensors'))
  assert len(written) >= 2
  readable = tmp_path.joinpath('out/config.json').stat().st_mode
  assert {file.stat().st_mode for file in written} == {readable}
  back = convert.import_weights(tmp_path / 'out', CONFIGS[name])
  assert_identical(back, params)
  said = json.loads((tmp_path / 'out/config.json').read_text())
  wanted = {x.dtype.name for x in jax.tree.leaves(params)}
  assert said['torch_dtype'] == min(wanted, key=len)


def test_an_export_from_many_devices_is_that_from_one(tmp_path):
  config = {**LLAVA, 'text': {**TEXT, 'vocab_size': 68}}
  rng = np.random.default_rng(0)
  init = functools.partial(models.init, models.build(config))
  whole = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
    jax.eval_shape(init, jax.random.key(0)),
  )
  mesh = sharding.make_mesh((2, 2, 2))
  spread = jax.device_put(whole, sharding.specs(whole, mesh))
  for name, params in (('one', whole), ('many', spread)):
    convert.export_weights(params, config, tmp_path / name)
  one, many = (
    (tmp_path / name / 'model.safetensors').read_bytes()
    for name in ('one', 'many')
  )
  assert one == many


def test_a_smaller_dtype_is_written_where_it_is_asked_for(tmp_path):
  convert.export_weights(
    made('llava'), LLAVA, tmp_path / 'out', dtype='bfloat16'
  )
  model = opened(tmp_path / 'out', 'llava')
  assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
  back = convert.import_weights(tmp_path / 'out', LLAVA)
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), made('llava'))
  assert_identical(back, rounded)


@pytest.mark.parametrize('format', ['merged', 'adapters'])
def test_the_greedy_text_is_the_same(tmp_path, format):
  params, batch = adapted('llava'), asked('llava')
  decoding = Decoding(max_new=24)
  tokens, _ = generate(
    models.build(LLAVA), params, batch, decoding, jax.random.key(0)
  )
  convert.export_weights(
    params if format == 'merged' else made('llava'), LLAVA, tmp_path / 'out'
  )
  model = opened(tmp_path / 'out', 'llava')
  if format == 'adapters':
    peft = pytest.importorskip('peft')
    convert.export_weights(
      params, LLAVA, tmp_path / 'lora', format='peft', base='org/base'
    )
    model = peft.PeftModel.from_pretrained(model, tmp_path / 'lora')
  written = model.generate(
    **inputs(batch), max_new_tokens=24, do_sample=False, eos_token_id=-1,
    pad_token_id=0, attention_mask=torch.ones(batch['tokens'].shape).long(),
  )  # fmt: skip
  assert written[0, 20:].tolist() == tokens[0].tolist()
  assert len(set(written[0, 20:].tolist())) > 3


def test_the_card_names_base_data_and_their_licences(tmp_path):
  convert.export_weights(
    made('llava'), LLAVA, tmp_path / 'out', preset='llava15_7b',
    base='liuhaotian/llava-v1.5-7b',
    data=['openbmb/RLHF-V-Dataset', 'my/own', 'rlhfv:/home/me/pairs'],
  )  # fmt: skip
  text = (tmp_path / 'out/README.md').read_text()
  head = text.split('---')[1]
  assert 'base_model: liuhaotian/llava-v1.5-7b' in head
  # What the hub can link to; a path of one's own is no data set there.
  assert 'datasets:\n- openbmb/RLHF-V-Dataset\n- my/own\ntags' in head
  for row in (
    '| base | liuhaotian/llava-v1.5-7b |',
    '| data | openbmb/RLHF-V-Dataset | CC BY-NC 4.0 |',
    'Llama 2 Community License |',
    '| image tower | CLIP ViT-L/14 | MIT |',
    '| data | my/own | not known',
    '| data | rlhfv:/home/me/pairs | CC BY-NC 4.0 if it is RLHF-V-Dataset |',
  ):
    assert row in text


def test_an_export_that_fails_leaves_nothing(tmp_path):
  params = {**made('llava'), 'judge': {'kernel': jnp.ones((32, 1))}}
  with pytest.raises(ValueError, match='judge/kernel has no name'):
    convert.export_weights(params, LLAVA, tmp_path / 'out')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'name, how, words',
  [
    ('muffin', {}, "format 'muffin'"),
    ('llava', {'format': 'muffin'}, "format 'hf'"),
    ('llava', {'format': 'gguf'}, 'one of hf, muffin, peft'),
  ],
)
def test_a_form_that_a_model_cannot_take(tmp_path, name, how, words):
  config = {'muffin': MUFFIN, 'llava': LLAVA}[name]
  with pytest.raises(ValueError, match=words):
    convert.export_weights(made(name), config, tmp_path / 'out', **how)


def test_nothing_is_written_over(tmp_path):
  (tmp_path / 'kept.txt').write_text('kept')
  with pytest.raises(ValueError, match='is there already: name another'):
    convert.export_weights(made('llava'), LLAVA, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['kept.txt']
