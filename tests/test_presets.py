"""Models of real size: as abstract shapes, never as arrays."""

import functools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding

from rlhfv_jax import generate, models, options, sharding, train
from rlhfv_jax.batch import Batch
from rlhfv_jax.data import chat
from rlhfv_jax.models.presets import PRESETS, preset
from rlhfv_jax.stages import problem

ROWS, BRANCH, NEW = 8, 64, 16


@functools.cache
def real(name):
  """What a run of this config begins with, over eight devices."""
  config = options.load(f'configs/ddpo.py:{name}')
  mesh = sharding.make_mesh((1, 4, 2))
  model = models.build(config.model)
  setup = problem.Setup(config, None, mesh, None, model, {}, {})
  return setup, problem.abstract_params(setup)


def decoder(c):
  heads = c.heads + c.kv_heads
  layer = 2 * c.width * c.head_dim * heads + 3 * c.width * c.mlp + 2 * c.width
  words = c.vocab_size * c.width * (1 if c.tie_head else 2)
  return c.depth * layer + c.width + words


def tower(c):
  w, m = c.width, c.mlp
  layer = 4 * (w * w + w) + 2 * w * m + m + w + 2 * 2 * w
  patches = 3 * c.patch**2 * w
  if c.kind == 'clip':
    built = c.depth + 1 + c.layer
    return built * layer + patches + (1 + c.patches + 1) * w + 2 * w
  layer += 2 * w + 2 * m  # the norms inside
  positions = (2 + 1 + c.patches + 1024) * w
  ends = patches + w + w + positions + 2 * 2 * w
  return 2 * c.depth * layer + ends + c.queries * w


def connector(c):
  into = c.vision.width * c.text.width + c.text.width
  return into + (c.connector == 'mlp2x') * (c.text.width + 1) * c.text.width


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_has_as_many_numbers_as_its_original(name):
  setup, params = real(name)
  c = setup.model.config
  expected = decoder(c.text)
  if c.vision is not None:
    expected += tower(c.vision) + connector(c)
  assert preset(name)['parameters'] == expected
  assert sum(x.size for x in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize(
  'name, released, more',
  [
    ('rlhfv_13b', 13_628_976_128, 0),
    ('vicuna_7b', 6_738_415_616, 0),
    ('llama31_8b', 8_030_261_248, 0),
    ('llama32_1b', 1_235_814_400, 0),
    # transformers has 64 more words, the layer and the norm after the one that
    # is read.
    ('llava15_7b', 7_063_427_072, 64 * 2 * 4096 + 12_596_224 + 2048),
  ],
)
def test_counts_are_those_of_the_released_files(name, released, more):
  assert preset(name)['parameters'] + more == released


@pytest.mark.parametrize('name', PRESETS)
def test_what_a_preset_says_fits_together(name):
  found = preset(name)
  text, vision = found['model']['text'], found['model']['vision']
  template = chat.template(found['template'])
  if vision is None:
    assert found['model']['image_token'] is None
    return
  assert found['image']['size'] == vision['image_size']
  policy = {'beit3': 'squash', 'clip': 'pad'}[vision['kind']]
  assert found['image']['policy'] == policy
  # Vicuna has 32000 words; a family's own tokens are the next ones.
  words = 32000 + len(template.tokens)
  assert text['vocab_size'] == words
  own = template.placeholder in template.tokens
  at = template.tokens.index(template.placeholder) if own else 0
  assert found['model']['image_token'] == 32000 + at


def test_a_preset_is_its_own_copy_and_a_wrong_name_is_told_the_nearest():
  preset('rlhfv_13b')['model']['text']['depth'] = 1
  assert preset('rlhfv_13b')['model']['text']['depth'] == 40
  with pytest.raises(ValueError, match="'rlhfv_13'; it may be: rlhfv_13b"):
    preset('rlhfv_13')


@pytest.mark.parametrize('file, lr', [('ddpo', 5e-7), ('sft', 2e-5)])
def test_every_real_model_has_its_configs(file, lr):
  for name in PRESETS:
    config, found = options.load(f'configs/{file}.py:{name}'), preset(name)
    manner = {'dtype': 'bfloat16', 'remat': 'full', 'attention': 'auto'}
    numbers = found['model'] | manner
    assert config.model.to_dict() == numbers
    assert config.chat.template == found['template']
    assert config.image.to_dict() == found['image']
    mixed = file == 'sft' and name.startswith(('muffin', 'rlhfv', 'llava_rlhf'))
    assert config.init == '' and bool(config.data.source) == mixed
    assert config.train.lr == lr and not config.arms
    assert 'base' not in config.stages and 'train' in config.stages


def test_a_recipe_after_a_real_model_is_that_recipe():
  config = options.load('configs/ddpo.py:rlhfv_13b,released')
  assert (config.loss.beta, config.loss.gamma, config.data.diff) == (
    0.1, 1.1, 'muffin',
  )  # fmt: skip
  assert config.model.text.depth == 40


@pytest.mark.parametrize('name', PRESETS)
def test_what_is_large_is_split_over_all_devices(name):
  _, params = real(name)
  whole = sum(x.size for x in jax.tree.leaves(params))
  here = 0
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    part = math.prod(x.sharding.shard_shape(x.shape))
    assert part * 8 == x.size or x.size < 4e6, sharding.path_name(path)
    here += part
  assert here * 8 < 1.05 * whole


@pytest.mark.parametrize('shape', [(1, 8, 1), (2, 64, 4), (1, 256, 1)])
@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_fits_a_pod(name, shape):
  _, params = real(name)
  kinds = (AxisType.Auto,) * 3
  mesh = AbstractMesh(shape, sharding.AXES, axis_types=kinds)
  assert jax.tree.leaves(sharding.specs(params, mesh))


def abstract(shape, dtype, mesh):
  place = NamedSharding(mesh, sharding.BATCH)
  return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def batches(setup):
  """(a batch of pairs, a batch of prompts), without their arrays."""
  config, mesh = setup.model.config, setup.mesh
  trunk = config.image_tokens + BRANCH
  images = {}
  if config.vision is not None:
    size = config.vision.image_size
    images['images'] = abstract((ROWS, size, size, 3), jnp.uint8, mesh)
  prompts = {
    'tokens': abstract((ROWS, trunk), jnp.int32, mesh),
    'lengths': abstract((ROWS, 2), jnp.int32, mesh),
  }
  length = trunk + 2 * BRANCH
  pairs = {
    'tokens': abstract((ROWS, length), jnp.int32, mesh),
    'lengths': abstract((ROWS, 3), jnp.int32, mesh),
    'roles': abstract((ROWS, 2, length), jnp.int8, mesh),
    'ref_logps': abstract((ROWS, length), jnp.float32, mesh),
  }
  return (
    Batch(pairs | images, (trunk, BRANCH, 2)),
    Batch(prompts | images, (trunk, 0, 1)),
  )


def lowered(setup, params):
  """Init, the train step, scoring and decoding, as far as the compiler."""
  s, (pairs, prompts) = setup, batches(setup)
  made = problem.program(s, 'preference', s.config.train)
  born = functools.partial(
    train.init_state, tx=made.tx, labels=made.labels, mesh=s.mesh
  )
  state = jax.eval_shape(born, params)
  state = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    state, sharding.specs(state, s.mesh),
  )  # fmt: skip
  number = jax.ShapeDtypeStruct((), jnp.float32)
  hyper = dict.fromkeys(('beta', 'gamma', 'learning_rate'), number)
  decoding = generate.Decoding(max_new=NEW, stop=(2,))

  def init(key):
    return models.init(s.model, key)

  def score(params, batch):
    return models.token_logps(s.model, params, batch)

  def decode(params, batch, key):
    return generate.generate(s.model, params, batch, decoding, key)

  key = jax.eval_shape(lambda: jax.random.key(0))
  places = sharding.specs(params, s.mesh)
  return SimpleNamespace(
    state=state,
    init=jax.jit(init, out_shardings=places).lower(key),
    train=made.train_step.lower(state, pairs, hyper),
    score=jax.jit(score).lower(params, pairs),
    decode=jax.jit(decode).lower(params, prompts, key),
  )


def shapes(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize('name', PRESETS)
def test_init_train_score_and_decode_are_programs(name):
  setup, params = real(name)
  with jax.set_mesh(setup.mesh):
    low = lowered(setup, params)
  assert shapes(low.init.out_info) == shapes(params)
  state, stats = low.train.out_info
  assert shapes(state) == shapes(low.state)
  assert {'loss', 'rewards/margins', 'grad_norm'} <= set(stats)
  length = batches(setup)[0]['tokens'].shape[1]
  assert shapes(low.score.out_info) == ((ROWS, length), jnp.float32)
  tokens, logps = low.decode.out_info
  assert shapes(tokens) == ((ROWS, NEW), jnp.int32)
  assert shapes(logps) == ((ROWS, NEW), jnp.float32)
  # The logits of all tokens never exist, and a step frees what it was given.
  every = f'tensor<{ROWS}x{length}x{setup.model.config.text.vocab_size}x'
  text = low.train.as_text()
  assert every not in text and every not in low.score.as_text()
  donated = text.count('tf.aliasing_output') + text.count('jax.buffer_donor')
  assert donated == len(jax.tree.leaves(low.state))


def test_fresh_parameters_are_never_whole_on_a_device():
  text = dict(vocab_size=2048, width=128, mlp=512, depth=8, heads=4,
              kv_heads=4, max_length=64)  # fmt: skip
  model = models.build(dict(text=text))
  setup = real('vicuna_7b')[0]._replace(model=model)
  params = problem.abstract_params(setup)
  init = functools.partial(models.init, model)
  places = sharding.specs(params, setup.mesh)
  lowered = jax.jit(init, out_shardings=places).lower(jax.random.key(0))
  memory = lowered.compile().memory_analysis()
  whole = sum(x.size * 4 for x in jax.tree.leaves(params))
  used = memory.output_size_in_bytes + memory.temp_size_in_bytes
  assert whole / 8 <= used < whole / 4
