"""Weights out: transformers and peft compute what we do; in again, the bits."""

import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from checkpoints import (
  CLIP,
  LINEAR,
  LLAVA,
  MUFFIN,
  TEXT,
  file,
  shards,
  state,
)
from flax.traverse_util import flatten_dict, unflatten_dict
from originals import error
from PIL import Image
from test_convert_import import assert_identical

from rlhfv_jax import convert, models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.convert.chat_template import jinja
from rlhfv_jax.data import chat, images, templates, tokenizer
from rlhfv_jax.generate import Decoding, generate
from rlhfv_jax.models import lora, quantize
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


@pytest.mark.parametrize('name', ['llava', 'llama3'])
def test_adapters_work_in_peft_and_merged(tmp_path, name):
  peft = pytest.importorskip('peft')
  params, batch = adapted(name), asked(name)
  wanted = ours(name, params, batch)
  assert error(wanted, ours(name, made(name), batch)) > 0.05
  for folder, weights, how in (
    ('base', made(name), {}),
    ('merged', params, {}),
    ('adapters', params, {'format': 'peft', 'base': 'org/base'}),
  ):
    convert.export_weights(weights, CONFIGS[name], tmp_path / folder, **how)
  merged = theirs(opened(tmp_path / 'merged', name), batch)
  assert error(merged, wanted) <= 1e-4
  beside = peft.PeftModel.from_pretrained(
    opened(tmp_path / 'base', name), tmp_path / 'adapters'
  )
  assert error(theirs(beside, batch), wanted) <= 1e-4
  # The tower has maps of the same names, which are left alone.
  named = [n for n, _ in beside.named_parameters() if 'lora_A' in n]
  assert len(named) == 4 * TEXT['depth']


@pytest.mark.parametrize('name', ['llava', 'muffin'])
def test_adapters_come_in_again_beside_their_base(tmp_path, name):
  params = adapted(name, dtypes='mixed')
  how = {'format': 'muffin'} if name == 'muffin' else {}
  convert.export_weights(
    made(name, dtypes='mixed'), CONFIGS[name], tmp_path / 'base', **how
  )
  # The base may be in eight bits meanwhile: adapters are not.
  convert.export_weights(
    quantize.to_int8(params), CONFIGS[name], tmp_path / 'adapters',
    format='peft', base='org/base',
  )  # fmt: skip
  back = convert.import_weights(
    [tmp_path / 'base', tmp_path / 'adapters'], CONFIGS[name]
  )
  assert_identical(back, params)


def test_a_judge_comes_in_again_with_its_head(tmp_path):
  head = {'weight': jnp.arange(32.0), 'bias': jnp.float32(0.5)}
  params = adapted('llava') | {'score_head': head}
  convert.export_weights(made('llava'), LLAVA, tmp_path / 'base')
  convert.export_weights(
    params, LLAVA, tmp_path / 'judge', format='peft', base='org/base'
  )
  back = convert.import_weights([tmp_path / 'base', tmp_path / 'judge'], LLAVA)
  assert_identical(back, params)
  # As whoever published the first one reads it.
  theirs = torch.nn.Linear(32, 1)
  theirs.load_state_dict(torch.load(tmp_path / 'judge/reward_head'))
  assert theirs.bias.item() == 0.5
  with pytest.raises(ValueError, match="score_head: with format 'peft'"):
    convert.export_weights(params, LLAVA, tmp_path / 'out')


def test_adapters_of_llava_rlhf_are_read(tmp_path):
  """As peft 0.4 wrote them, beside a model with its names of its own."""
  rng = np.random.default_rng(0)
  names = {f'model.layers.{i}.self_attn.q_proj' for i in range(3)}
  prefix = 'base_model.model.'
  tensors = {}
  for name in sorted(names):
    a, b = rng.normal(size=(2, 4, 32)).astype('f4')
    tensors[f'{prefix}{name}.lora_A.weight'] = torch.tensor(a)
    tensors[f'{prefix}{name}.lora_B.weight'] = torch.tensor(b.T.copy())
  file(tmp_path / 'lora/adapter_model.bin', tensors)
  settings = {'r': 4, 'lora_alpha': 1, 'bias': 'none', 'peft_type': 'LORA',
              'base_model_name_or_path': 'a-private-path'}  # fmt: skip
  (tmp_path / 'lora/adapter_config.json').write_text(json.dumps(settings))
  shards(tmp_path / 'llava', state('llava', 'linear'))
  params = convert.import_weights(
    [tmp_path / 'llava', tmp_path / 'lora'], LINEAR
  )
  q = params['language_model']['layers']['self_attn']['q_proj']
  np.testing.assert_array_equal(q['lora_scale'], [0.25] * 3)
  name = f'{prefix}model.layers.2.self_attn.q_proj.lora_B.weight'
  np.testing.assert_array_equal(q['lora_b'][2], tensors[name].T)


def test_adapters_of_unlike_rank_and_scale_keep_them(tmp_path):
  params = flatten_dict(adapted('llama3'))
  at = ('language_model', 'layers', 'self_attn', 'q_proj')
  params[*at, 'lora_a'] = params[*at, 'lora_a'][..., :2]
  params[*at, 'lora_b'] = params[*at, 'lora_b'][..., :2, :]
  params[*at, 'lora_scale'] = jnp.float32([0.1, 2.5, 1 / 3])
  params = unflatten_dict(params)
  convert.export_weights(made('llama3'), LLAMA3, tmp_path / 'base')
  convert.export_weights(
    params, LLAMA3, tmp_path / 'adapters', format='peft', base='org/base'
  )
  back = convert.import_weights(
    [tmp_path / 'base', tmp_path / 'adapters'], LLAMA3
  )
  assert_identical(back, params)
  peft = pytest.importorskip('peft')
  beside = peft.PeftModel.from_pretrained(
    opened(tmp_path / 'base', 'llama3'), tmp_path / 'adapters'
  )
  batch = asked('llama3')
  wanted = ours('llama3', params, batch)
  assert error(theirs(beside, batch), wanted) <= 1e-4


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


@pytest.fixture(scope='module')
def llama_tokenizer(tmp_path_factory):
  pytest.importorskip('sentencepiece')
  import test_tokenizer

  folder = test_tokenizer.folder(tmp_path_factory.mktemp('tokenizer'))
  return tokenizer.load(folder)


@pytest.mark.parametrize('policy', ['pad', 'crop', 'squash'])
def test_the_processor_asks_as_we_do(tmp_path, llama_tokenizer, policy):
  words = len(llama_tokenizer)
  config = {**LLAVA, 'text': {**TEXT, 'vocab_size': words},
            'image_token': words}  # fmt: skip
  model = models.build(config)
  params = jax.tree.map(
    lambda x: jnp.zeros(x.shape),
    jax.eval_shape(functools.partial(models.init, model), jax.random.key(0)),
  )
  convert.export_weights(
    params, config, tmp_path / 'out', tokenizer=llama_tokenizer,
    chat='vicuna_v1', policy=policy,
  )  # fmt: skip
  processor = transformers.AutoProcessor.from_pretrained(tmp_path / 'out')
  rng = np.random.default_rng(0)
  picture = Image.fromarray(rng.integers(0, 256, (40, 29, 3), 'u1'))
  file = io.BytesIO()
  picture.save(file, 'PNG')
  turns = [('user', 'What can you see?'), ('assistant', 'A red cup.'),
           ('user', 'Is there a café?')]  # fmt: skip
  messages = [
    {'role': role, 'content': [{'type': 'text', 'text': text}]}
    for role, text in turns
  ]
  messages[0]['content'].insert(0, {'type': 'image', 'image': picture})
  given = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True,
    return_tensors='np',
  )  # fmt: skip
  style = templates.template('vicuna_v1')
  pieces = templates.render(
    turns, None, style, stop=llama_tokenizer.eos_token, image=True
  )
  tokens = chat.tokenize(
    pieces, llama_tokenizer.backend_tokenizer, image_tokens=9,
    image_token=words, begins=chat.beginning(llama_tokenizer),
  )  # fmt: skip
  assert given['input_ids'][0].tolist() == tokens.ids.tolist()
  seen = images.load(file.getvalue(), CLIP['image_size'], policy=policy)
  pixels = np.asarray(_normalize(seen[None], 'clip'))[0].transpose(2, 0, 1)
  np.testing.assert_allclose(given['pixel_values'][0], pixels, atol=1e-5)
  ends = transformers.GenerationConfig.from_pretrained(tmp_path / 'out')
  assert ends.eos_token_id == llama_tokenizer.eos_token_id


@pytest.mark.parametrize('name', ['vicuna_v1', 'llava_v1', 'llama3', 'plain'])
def test_a_text_model_is_asked_as_we_ask(tmp_path, llama_tokenizer, name):
  style = templates.template(name)
  llama_tokenizer.chat_template = jinja(style, llama_tokenizer, bos=True)
  turns = [('user', "It's {brackets} \"here\""), ('assistant', 'Yes\n{{x}}'),
           ('user', 'Sure?')]  # fmt: skip
  stop = tokenizer.stop_text(llama_tokenizer, style)
  for last, answer in ((True, None), (False, 'No.')):
    pieces = templates.render(turns, answer, style, stop=stop, image=False)
    said = turns if last else [*turns, ('assistant', 'No.')]
    text = llama_tokenizer.apply_chat_template(
      [{'role': role, 'content': text} for role, text in said],
      add_generation_prompt=last, tokenize=False,
    )  # fmt: skip
    assert text == '<s>' + ''.join(piece for piece, _ in pieces)
  told = llama_tokenizer.apply_chat_template(
    [{'role': 'system', 'content': 'Be brief.'},
     {'role': 'user', 'content': 'Why?'}], tokenize=False,
  )  # fmt: skip
  assert told.startswith('<s>Be brief.')


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
