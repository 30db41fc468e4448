"""Trainings with adapters: the base stays, unwritten, and is found again."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from rlhfv_jax import files, models, optim, options, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.checkpoint import save_params
from rlhfv_jax.metrics import Mean
from rlhfv_jax.models import layers, quantize
from rlhfv_jax.objectives.sft import sft_loss
from rlhfv_jax.train import adapt, nonfinite, session

AUTO = jax.sharding.AxisType.Auto
TARGETS = '.*language_model.*(q_proj|v_proj|down_proj)'
ALONE = (('.*lora_[ab]', 'trained'), ('.*', 'frozen'))
AND_NORM = (('.*/norm/weight', 'trained'), *ALONE)


@functools.cache
def model():
  return models.build({
    'text': {'vocab_size': 32, 'width': 16, 'mlp': 24, 'depth': 2, 'heads': 2,
             'kv_heads': 2, 'max_length': 16},
  })  # fmt: skip


def start(kept='float32', rules=ALONE, rank=2):
  return adapt.Start(kept, rules, 0, rank, 8.0, TARGETS)


@functools.cache
def mesh():
  return jax.make_mesh((1, 1, 1), sharding.AXES, devices=jax.devices()[:1],
                       axis_types=(AUTO,) * 3)  # fmt: skip


@functools.cache
def like():
  init = functools.partial(models.init, model())
  shapes = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes, sharding.specs(shapes, mesh()),
  )  # fmt: skip


@functools.cache
def numbers():
  rng = np.random.default_rng(0)
  return jax.tree_util.tree_map_with_path(
    lambda path, x: rng.normal(
      path[-1].key == 'weight', 0.2, x.shape
    ).astype(np.float32),
    like(),
  )  # fmt: skip


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  path = tmp_path_factory.mktemp('base') / 'params'
  save_params(path, numbers())
  return path


def loss(params, batch, hyper):
  logps = models.token_logps(model(), params, batch)
  weighted = logps * batch['weight'] * hyper['scale']
  return sft_loss(weighted, batch['roles'])


class Numbers:
  """A feed whose batch k is made from k."""

  def __init__(self, stop_at=None, spoil=None):
    self.step, self.stop_at, self.spoil = 0, stop_at, spoil

  def __call__(self, state):
    if self.step == self.stop_at:
      raise KeyboardInterrupt
    rng = np.random.default_rng(self.step)
    weight = np.ones((4, 8), np.float32)
    weight[2] = np.inf if self.step == self.spoil else 1
    self.step += 1
    return sharding.batch_to_devices(Batch({
      'tokens': rng.integers(0, 32, (4, 8)).astype(np.int32),
      'lengths': np.array([[8, 0]] * 4, np.int32),
      'roles': np.ones((4, 1, 8), np.int8),
      'index': np.arange(4, dtype=np.int32),
      'weight': weight,
    }, (8, 0, 1)), mesh())  # fmt: skip

  def get_state(self):
    return {'step': np.array(self.step)}

  def set_state(self, state):
    self.step = int(state['step'])


@functools.cache
def config(rules):
  return ConfigDict({
    'batch': 4, 'micro': 1, 'steps': 4, 'lr': 0.05, 'warmup': 0.1,
    'schedule': 'cosine', 'clip': 1.0, 'b1': 0.9, 'b2': 0.999, 'eps': 1e-8,
    'optimizer': 'adamw', 'weight_decay': 0.0, 'rules': rules, 'log_every': 1,
    'save_every': 2, 'eval_every': 2, 'keep': 2, 'best': 'eval_loss:min',
    'patience': 0,
  })  # fmt: skip


@functools.cache
def program(begin):
  params = abstract(begin)
  return session.program(loss, params, config(begin.rules), mesh())


@functools.cache
def abstract(begin):
  key = jax.random.key(0)
  whole = lambda p: adapt.lora.attach(
    adapt.keep(p, begin), key, rank=begin.rank, alpha=begin.alpha,
    targets=begin.targets,
  )  # fmt: skip
  return jax.eval_shape(whole, like())


def train(folder, base, begin, *, held_out=True, **feed):
  with jax.set_mesh(mesh()):
    params = adapt.begin(base, like(), begin, mesh())
    adapt.note(folder, base, begin)
    dev = [Numbers()(None)]
    return session.run(
      program(begin), params, Numbers(**feed), hyper={'scale': 1.0},
      config=config(begin.rules), held_out=(lambda: dev) if held_out else None,
      folder=folder, name='test', mesh=mesh(),
    )  # fmt: skip


def leaves(tree):
  """Last names of what is there."""
  return {p[-1] for p, x in flatten_dict(tree).items() if x is not None}


def assert_same(a, b):
  a, b = flatten_dict(a, sep='/'), flatten_dict(b, sep='/')
  assert a.keys() == b.keys()
  for name, x in a.items():
    assert x.dtype == b[name].dtype, name
    np.testing.assert_array_equal(np.asarray(x), np.asarray(b[name]), name)


@pytest.mark.parametrize('kept, rules, trained', [
  ('int8', ALONE, {'lora_a', 'lora_b'}),
  ('float32', AND_NORM, {'lora_a', 'lora_b', 'weight'}),
])  # fmt: skip
def test_a_training_writes_what_it_trains_and_ends_in_the_same_bits(
  tmp_path, base, kept, rules, trained
):
  begin = start(kept, rules)
  whole = train(tmp_path / 'whole', base, begin)
  with pytest.raises(KeyboardInterrupt):
    train(tmp_path / 'parts', base, begin, stop_at=3)
  parts = train(tmp_path / 'parts', base, begin)
  assert_same(parts, whole)
  with jax.set_mesh(mesh()):
    first = adapt.begin(base, like(), begin, mesh())
    # Found again where it lies, base and all; so is the finished training.
    assert_same(adapt.load(tmp_path / 'parts/params', like(), mesh()), whole)
  assert_same(train(tmp_path / 'parts', base, begin, stop_at=0), whole)
  moved = {
    name.split('/')[-1]
    for name, x in flatten_dict(first, sep='/').items()
    if not np.array_equal(x, flatten_dict(whole, sep='/')[name])
  }
  assert moved == trained
  folder = tmp_path / 'parts'
  newest = ocp.load_checkpointables(folder / 'checkpoints/4')['state']
  for found in (newest['params'], ocp.load(folder / 'params'),
                ocp.load(folder / 'best')):  # fmt: skip
    assert leaves(found) == trained


@pytest.mark.parametrize('kept', ['bfloat16', 'int8'])
def test_one_parameter_at_a_time_is_all_at_once(base, kept):
  begin = start(kept)
  with jax.set_mesh(mesh()):
    slowly = adapt.base(base, like(), begin, mesh())
  at_once = jax.jit(functools.partial(adapt.keep, start=begin))(numbers())
  assert_same(slowly, at_once)
  kinds = {str(x.dtype) for x in jax.tree.leaves(slowly)}
  steps = {'int8', 'float32'} if kept == 'int8' else set()
  assert kinds == {'bfloat16'} | steps


def test_a_base_kept_in_float32_is_the_one_on_disk(base):
  with jax.set_mesh(mesh()):
    assert_same(adapt.base(base, like(), start(), mesh()), numbers())


def test_without_adapters_only_what_is_frozen_is_kept_smaller(base):
  rules = (('.*embedding', 'frozen'), ('.*', 'trained'))
  with jax.set_mesh(mesh()):
    params = adapt.begin(base, like(), start('bfloat16', rules, 0), mesh())
  words = params['language_model'].pop('embed_tokens')['embedding']
  assert words.dtype == jax.numpy.bfloat16
  others = dict(numbers()['language_model'])
  exact = others.pop('embed_tokens')['embedding']
  np.testing.assert_allclose(np.float32(words), exact, rtol=2**-8)
  assert_same(params, {'language_model': others})


def test_adapters_can_stand_on_a_model_that_has_some(tmp_path, base):
  begin = start('int8')
  first = train(tmp_path / 'first', base, begin, held_out=False)
  with jax.set_mesh(mesh()):
    path = tmp_path / 'first/params'
    second = adapt.base(path, like(), start('float32'), mesh())
  plain = jax.jit(adapt.plain)(first)
  assert jax.tree.structure(second) == jax.tree.structure(numbers())
  for a, b in zip(*map(jax.tree.leaves, (second, plain)), strict=True):
    np.testing.assert_allclose(
      np.asarray(a, np.float32), np.asarray(b, np.float32), atol=1e-6
    )


@pytest.mark.parametrize('kept', adapt.KINDS)
def test_adapters_that_an_import_brought_are_part_of_the_base(tmp_path, kept):
  """LLaVA-RLHF's policy is a model and adapters beside it."""
  rng = np.random.default_rng(1)
  whole = adapt.lora.attach(numbers(), jax.random.key(0), rank=3, alpha=2.0,
                            targets=TARGETS)  # fmt: skip
  whole = jax.tree_util.tree_map_with_path(
    lambda path, x: (
      rng.normal(0, 0.2, x.shape).astype(np.float32)
      if path[-1].key == 'lora_b'
      else x
    ),
    whole,
  )
  paths = [tmp_path / name / 'params' for name in ('brought', 'merged')]
  save_params(paths[0], whole)
  save_params(paths[1], jax.jit(adapt.lora.merge)(whole))
  with jax.set_mesh(mesh()):
    found, wanted = (
      adapt.begin(path, like(), start(kept), mesh()) for path in paths
    )
    assert_same(found, wanted)
    assert_same(*(adapt.load(path, like(), mesh()) for path in paths))


def test_a_bad_number_is_named_over_an_int8_base(tmp_path, base):
  with pytest.raises(nonfinite.NonFinite, match='step 3: .*batch weight is'):
    train(tmp_path, base, start('int8'), spoil=2)
  assert leaves(ocp.load(tmp_path / 'replay-3-params')) == {'lora_a', 'lora_b'}


def test_a_bad_gradient_is_looked_for_in_what_is_trained():
  rng = np.random.default_rng(0)
  params = {'map': {'kernel': rng.normal(size=(4, 3)).astype(np.float32)}}
  params = adapt.lora.attach(quantize.to_int8(params, '.*'), jax.random.key(0),
                             rank=2, alpha=1, targets='map')  # fmt: skip

  def root(params, batch, hyper):
    # At zero, where fresh adapters are, a root is fine and its slope is not.
    dense = layers.Dense(3, 'float32', bias=False)
    out = dense.apply({'params': params['map']}, batch['x']).sum(-1)
    out += jax.numpy.sqrt(params['map']['lora_b'].sum())
    return {'loss': Mean.of(out, where=batch['roles'][:, 0, 0] > 0)}

  batch = Batch({
    'x': rng.normal(size=(2, 4)), 'roles': np.ones((2, 1, 1), np.int8),
    'index': np.arange(2),
  }, (1, 0, 1))  # fmt: skip
  labels = optim.labels(params, ALONE)
  said = nonfinite.explain(root, params, batch, {}, labels=labels)
  assert 'the gradient of map/lora_b is not finite, from rows [0, 1]' in said


def test_a_kind_there_is_not_says_which_there_are():
  with pytest.raises(ValueError, match="'int4' is none of float32, bfloat16"):
    start('int4')


@pytest.mark.parametrize('flag', ['ddpo.py:playroom,lora', 'sft.py:small,lora'])
def test_the_preset_trains_adapters_and_is_noted_as_plain_json(tmp_path, flag):
  c = options.load(f'configs/{flag}')
  assert c.lora.rank == 8 and 'train' in c.stages
  begin = adapt.Start(
    c.lora.base, c.lora.rules, c.seed, c.lora.rank, c.lora.alpha, c.lora.targets
  )
  adapt.note(tmp_path / 'run', tmp_path / 'base/params', begin)
  about = files.read_json(tmp_path / 'run' / adapt.NOTE)
  assert about['base'] == '../base/params'
  assert adapt.Start(**about['start']) == begin
