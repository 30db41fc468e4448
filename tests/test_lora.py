"""Adapters: peft's numbers, nothing at first, in and out of the base."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rlhfv_jax import models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.generate import Decoding, generate
from rlhfv_jax.models import lora

TEXT = dict(vocab_size=68, width=32, mlp=48, depth=4, heads=4, kv_heads=2,
            max_length=64, rms_eps=1e-5)  # fmt: skip
NAMES = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj',
         'down_proj')  # fmt: skip
TARGETS = f'.*language_model.*({"|".join(NAMES)})'
HOW = dict(rank=3, alpha=7.0, targets=TARGETS)
VISION = {'kind': 'beit3', 'image_size': 16, 'patch': 8, 'width': 16,
          'mlp': 32, 'depth': 2, 'heads': 4, 'queries': 4}  # fmt: skip


@functools.cache
def model(dtype='float32', remat='none', seeing=False):
  vision = dict(vision=VISION, image_token=3) if seeing else {}
  return models.build(dict(text=TEXT, dtype=dtype, remat=remat, **vision))


@functools.cache
def plain(seeing=False):
  """Norms near 1, the rest near 0: `init` takes seconds to compile."""
  rng = np.random.default_rng(0)
  init = functools.partial(models.init, model(seeing=seeing))
  return jax.tree_util.tree_map_with_path(
    lambda path, x: rng.normal(
      path[-1].key == 'weight', 0.1, x.shape
    ).astype(np.float32),
    jax.eval_shape(init, jax.random.key(0)),
  )  # fmt: skip


def stirred(params, seed=1):
  """With adapters that say something: B is zero at first."""
  rng = np.random.default_rng(seed)
  moved = lambda path, x: (
    rng.normal(0, 0.1, x.shape).astype(np.float32)
    if path[-1].key == 'lora_b'
    else x
  )
  fresh = lora.attach(params, jax.random.key(seed), **HOW)
  return jax.tree_util.tree_map_with_path(moved, fresh)


def tokens(rows=2, length=9):
  return np.random.default_rng(2).integers(4, 67, (rows, length))


def logits(model, params, ids):
  """Every position sees those before it."""
  position = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
  mask = np.tril(np.ones((ids.shape[1],) * 2, bool))[None, None]
  hidden = model.apply({'params': params}, ids, position, mask)
  return model.apply({'params': params}, hidden, method='logits')


@functools.cache
def run(dtype='float32'):
  return jax.jit(functools.partial(logits, model(dtype=dtype)))


def assert_close(a, b, tolerance):
  """Norm of the difference over the norm, of every leaf."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y)


def place(name):
  block = 'mlp' if name in NAMES[4:] else 'self_attn'
  return block, name


def with_peft(params):
  """The same decoder in transformers, the same adapters in peft."""
  peft = pytest.importorskip('peft')
  torch = pytest.importorskip('torch')
  from transformers import LlamaConfig, LlamaForCausalLM

  c = LlamaConfig(
    vocab_size=68, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
    max_position_embeddings=64, tie_word_embeddings=False,
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = peft.get_peft_model(LlamaForCausalLM(c), peft.LoraConfig(
    r=3, lora_alpha=7, target_modules=list(NAMES), lora_dropout=0.0,
    task_type='CAUSAL_LM',
  ))  # fmt: skip
  copy = lambda to, x: to.data.copy_(torch.tensor(np.array(x)))
  ours, core = params['language_model'], theirs.base_model.model.model
  copy(core.embed_tokens.weight, ours['embed_tokens']['embedding'])
  copy(core.norm.weight, ours['norm']['weight'])
  copy(theirs.base_model.model.lm_head.weight, ours['lm_head']['kernel'].T)
  for i, layer in enumerate(core.layers):
    for name in ('input_layernorm', 'post_attention_layernorm'):
      copy(getattr(layer, name).weight, ours['layers'][name]['weight'][i])
    for block, name in map(place, NAMES):
      map_ = getattr(getattr(layer, block), name)
      mine = jax.tree.map(lambda x, i=i: x[i], ours['layers'][block][name])
      assert map_.scaling['default'] == pytest.approx(mine['lora_scale'])
      copy(map_.base_layer.weight, mine['kernel'].T)
      copy(map_.lora_A['default'].weight, mine['lora_a'].T)
      copy(map_.lora_B['default'].weight, mine['lora_b'].T)
  return torch, theirs, core.layers


def test_forward_and_gradients_are_those_of_peft():
  params, ids = stirred(plain()), tokens()
  weight = np.random.default_rng(3).normal(size=(2, 9, 68)).astype(np.float32)
  torch, theirs, layers = with_peft(params)
  expected = theirs(torch.tensor(ids)).logits
  (expected * torch.tensor(weight)).sum().backward()

  def total(adapters):
    whole = lora.join(plain(), adapters)
    out = logits(model(remat='full'), whole, ids)
    return (out * weight).sum(), out

  gradient = jax.jit(jax.grad(total, has_aux=True))
  found, out = gradient(lora.adapters(params))
  assert_close(out, expected.detach().numpy(), 1e-5)
  for block, name in map(place, NAMES):
    own = found['language_model']['layers'][block][name]
    for leaf in 'AB':
      expected = np.stack([
        getattr(getattr(getattr(layer, block), name), f'lora_{leaf}')
        ['default'].weight.grad.numpy().T
        for layer in layers
      ])  # fmt: skip
      assert_close(own[f'lora_{leaf.lower()}'], expected, 1e-5)


def test_fresh_adapters_have_the_spread_of_peft_and_a_key_of_their_own():
  wide = {'a': {'kernel': np.zeros((2, 400, 30))},
          'b': {'kernel': np.zeros((2, 400, 30))}}  # fmt: skip
  how = dict(rank=50, alpha=5.0)
  both = lora.init(wide, jax.random.key(0), targets='.*', **how)
  a, b = np.asarray(both['a']['lora_a']), np.asarray(both['b']['lora_a'])
  # kaiming_uniform_ with a = sqrt(5) is uniform within 1 / sqrt(inputs).
  assert np.abs(a).max() == pytest.approx(400**-0.5, rel=1e-3)
  assert a.std() == pytest.approx(400**-0.5 / 3**0.5, rel=1e-2)
  assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
  assert abs(np.corrcoef(a[0].ravel(), a[1].ravel())[0, 1]) < 0.02
  np.testing.assert_allclose(both['a']['lora_scale'], [0.1, 0.1], rtol=1e-7)
  alone = lora.init(wide, jax.random.key(0), targets='b', **how)
  np.testing.assert_array_equal(alone['b']['lora_a'], b)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_fresh_adapters_change_no_bit(dtype):
  params = lora.attach(plain(), jax.random.key(0), **HOW)
  before, after = (run(dtype)(p, tokens()) for p in (plain(), params))
  np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
  assert np.ptp(np.asarray(after)) > 0.1
  assert not jax.tree.all(jax.tree.map(
    lambda x: (x == 0).all(), lora.adapters(params)))  # fmt: skip


def test_merged_is_the_same_model_and_unmerged_the_same_parts():
  params = stirred(plain())
  merged = lora.merge(params)
  assert jax.tree.structure(merged) == jax.tree.structure(plain())
  base, adapted, found = (
    np.asarray(run()(p, tokens())) for p in (plain(), params, merged)
  )
  assert np.abs(adapted - base).max() > 0.01
  assert_close(found, adapted, 2e-6)
  again = lora.unmerge(merged, lora.adapters(params))
  assert_close(again, params, 1e-6)


def test_answers_and_scores_are_those_of_the_merged_model():
  params = stirred(plain())
  batch = Batch({
    'tokens': tokens(rows=3, length=12).astype(np.int32),
    'lengths': np.array([[12, 0], [9, 0], [11, 0]], np.int32),
  }, (12, 0, 1))  # fmt: skip
  merged = lora.merge(params)
  score = jax.jit(functools.partial(models.token_logps, model()))
  assert_close(score(params, batch), score(merged, batch), 1e-5)
  key, decoding = jax.random.key(0), Decoding(max_new=6)
  one, two = (generate(model(), p, batch, decoding, key)
              for p in (params, merged))  # fmt: skip
  np.testing.assert_array_equal(one[0], two[0])
  np.testing.assert_allclose(one[1], two[1], atol=1e-5)


def test_adapters_are_sharded_like_the_kernel_they_meet():
  auto = (jax.sharding.AxisType.Auto,) * 3
  mesh = jax.make_mesh((2, 2, 2), sharding.AXES, axis_types=auto)
  everywhere = '.*(_proj|_projector|proj/[AB]|fc1|fc2)'
  seeing = lora.attach(plain(seeing=True), jax.random.key(0), rank=2,
                       alpha=1.0, targets=everywhere)  # fmt: skip
  specs = flatten_dict(sharding.specs(seeing, mesh))
  met = [path[:-1] for path in specs if path[-1] == 'lora_a']
  towers = [path for path in met if 'vision_tower' in path]
  assert len(met) > len(towers) > 7
  for path in met:
    if 'layers' in path:
      kernel = specs[*path, 'kernel'].spec
      assert {kernel[1], kernel[2]} == {'fsdp', 'tensor'}
      assert specs[*path, 'lora_a'].spec[1] == kernel[1]
      assert specs[*path, 'lora_b'].spec[2] == kernel[2]
  params = stirred(plain())
  spread = jax.device_put(params, sharding.specs(params, mesh))
  with jax.set_mesh(mesh):
    shared = run()(spread, tokens())
  assert_close(shared, run()(params, tokens()), 1e-5)


def test_targets_that_name_nothing_or_the_head_are_errors():
  for targets in ('.*q_prj', '.*lm_head', '.*embed_tokens'):
    with pytest.raises(ValueError, match='they are named like language_model'):
      lora.init(plain(), jax.random.key(0), rank=2, alpha=1, targets=targets)
  with pytest.raises(ValueError, match='rank 0: choose at least 1'):
    lora.init(plain(), jax.random.key(0), rank=0, alpha=1, targets='.*')
