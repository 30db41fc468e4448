"""Eight bits: how far off they may be, and what never exists beside them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from rlhfv_jax import models, optim
from rlhfv_jax.models import layers, lora, presets, quantize

TEXT = dict(vocab_size=68, width=32, mlp=48, depth=3, heads=4, kv_heads=2,
            max_length=64)  # fmt: skip
TARGETS = '.*language_model.*_proj'


@functools.cache
def model(dtype='float32', remat='none'):
  return models.build(dict(text=TEXT, dtype=dtype, remat=remat))


@functools.cache
def plain():
  """Norms near 1, the rest near 0: `init` takes seconds to compile."""
  rng = np.random.default_rng(0)
  init = functools.partial(models.init, model())
  return jax.tree_util.tree_map_with_path(
    lambda path, x: rng.normal(
      path[-1].key == 'weight', 0.2, x.shape
    ).astype(np.float32),
    jax.eval_shape(init, jax.random.key(0)),
  )  # fmt: skip


@functools.cache
def small():
  return jax.device_get(jax.jit(quantize.to_int8)(plain()))


@functools.cache
def adapters():
  how = dict(rank=2, alpha=4, targets=TARGETS)
  fresh = lora.init(plain(), jax.random.key(0), **how)
  return jax.tree.map(lambda x: np.asarray(x) + 0.05 * (x == 0), fresh)


def loss(model, adapters, base):
  ids = np.random.default_rng(1).integers(0, 68, (2, 8))
  position = np.broadcast_to(np.arange(8), ids.shape)
  mask = np.tril(np.ones((8, 8), bool))[None, None]
  params = {'params': lora.join(base, adapters)}
  hidden = model.apply(params, ids, position, mask)
  return (hidden.astype(jnp.float32) ** 3).sum()


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_no_weight_is_off_by_more_than_half_a_step(seed, size):
  kernel = np.random.default_rng(seed).standard_t(2, (2, 7, 5)) * size
  kernel[0, :, 3] = 0
  kernel = kernel.astype(np.float32)
  whole, steps = map(np.asarray, quantize.rounded(kernel))
  assert whole.dtype == np.int8 and steps.shape == (2, 5)
  off = np.abs(whole * steps[:, None].astype(np.float64) - kernel)
  assert (off <= steps[:, None] * 0.5001).all()
  assert (np.abs(whole).max(1) == 127 * (steps > 0)).all()


def test_no_output_is_off_by_more_than_its_weights_allow():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 6, 64)).astype(np.float32)
  kernel, bias = rng.normal(size=(64, 24)), rng.normal(size=24)
  params = {'map': {'kernel': kernel.astype(np.float32),
                    'bias': bias.astype(np.float32)}}  # fmt: skip
  rounded = quantize.to_int8(params, 'map/kernel')
  dense = layers.Dense(24, 'float32')
  exact, off = (
    np.asarray(dense.apply({'params': p['map']}, x)) for p in (params, rounded)
  )
  steps = np.asarray(rounded['map']['kernel_scale'])
  bound = np.abs(x).sum(-1, keepdims=True) * steps / 2
  assert (np.abs(off - exact) <= bound * 1.001).all()
  relative = np.linalg.norm(off - exact) / np.linalg.norm(exact)
  assert 1e-4 < relative < 1e-2


def test_the_decoder_alone_is_rounded_and_once():
  for path, x in flatten_dict(small()).items():
    inside = 'layers' in path and path[-1] == 'kernel'
    assert (x.dtype == jnp.int8) == inside, path
  again = quantize.to_int8(small())
  assert jax.tree.all(jax.tree.map(np.array_equal, again, small()))
  whole = quantize.dequantize(small())
  assert jax.tree.structure(whole) == jax.tree.structure(plain())
  assert {x.dtype for x in jax.tree.leaves(whole)} == {np.dtype('float32')}


def test_adapters_on_int8_learn_what_they_would_on_its_values():
  gradient = jax.jit(jax.value_and_grad(functools.partial(loss, model())))
  one, found = gradient(adapters(), small())
  two, expected = gradient(adapters(), quantize.dequantize(small()))
  assert float(one) == pytest.approx(float(two), rel=1e-5)
  found, expected = flatten_dict(found), flatten_dict(expected)
  for path, x in expected.items():
    assert np.linalg.norm(x) > 0
    off = np.linalg.norm(found[path] - x) / np.linalg.norm(x)
    assert off <= 1e-5, path


def computed(jaxpr):
  """Shape and dtype of all that is computed, inside of scans too."""
  for equation in jaxpr.eqns:
    yield from ((v.aval.shape, str(v.aval.dtype)) for v in equation.outvars)
    for inner in jaxprs_in_params(equation.params):
      yield from computed(inner)


@pytest.mark.parametrize('remat', ['none', 'full'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_kernels_of_all_layers_never_exist_as_floats(dtype, remat):
  gradient = jax.grad(functools.partial(loss, model(dtype, remat)))
  trace = lambda base: set(
    computed(jax.make_jaxpr(gradient)(adapters(), base).jaxpr)
  )
  kernels = [x for x in jax.tree.leaves(small()) if x.dtype == jnp.int8]
  assert len(kernels) == 7
  here = {shape for shape, kind in trace(small()) if kind != 'int8'}
  assert not here & {x.shape for x in kernels}
  # The same search finds what a base of floats, cast layer by layer, leaves.
  if (dtype, remat) == ('bfloat16', 'none'):
    assert ((3, 32, 48), 'bfloat16') in trace(plain())


def test_what_is_frozen_takes_half_and_steps_stay_exact():
  params = lora.join(small(), adapters())
  rules = (('.*(lora_[ab]|/norm/weight)', 'trained'), ('.*', 'frozen'))
  cast = optim.cast_frozen(params, optim.labels(params, rules), jnp.bfloat16)
  was, halved = flatten_dict(params), set()
  for path, x in flatten_dict(cast).items():
    if x.dtype == was[path].dtype:
      np.testing.assert_array_equal(x, was[path])
    else:
      assert x.dtype == jnp.bfloat16
      halved.add('/'.join(path[1:]))
  assert halved == {
    'embed_tokens/embedding', 'lm_head/kernel', 'layers/input_layernorm/weight',
    'layers/post_attention_layernorm/weight',
  }  # fmt: skip


def test_int8_cannot_be_trained():
  with pytest.raises(ValueError, match='kernel is int8, which cannot be train'):
    optim.labels(small(), (('.*', 'trained'),))


@pytest.mark.parametrize('name', ['llava15_7b', 'llava_rlhf_7b', 'vicuna_7b'])
def test_a_model_of_7b_with_adapters_fits_a_chip_of_16_gb(name):
  made = presets.preset(name)
  model = models.build(dict(made['model'], dtype='bfloat16'))

  def start(key):
    base = quantize.to_int8(models.init(model, key))
    params = lora.attach(base, key, rank=64, alpha=16, targets=TARGETS)
    labels = optim.labels(params, (('.*lora_[ab]', 'trained'),
                                   ('.*', 'frozen')))  # fmt: skip
    params = optim.cast_frozen(params, labels, jnp.bfloat16)
    trained, _ = optim.split(params, labels)
    return params, trained, optim.optimizer('adamw', labels).init(trained)

  params, trained, moments = jax.eval_shape(start, jax.random.key(0))
  size = lambda tree: sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
  # peft's count for rank 64 on the seven maps of a 7B decoder.
  numbers = sum(math.prod(x.shape) for x in jax.tree.leaves(trained))
  assert numbers == 159_907_840
  held = size((params, moments)) / 2**30
  assert held < 9
  # What is left for gradients and activations of the chip's 15.75 GiB.
  assert 15.75 - held - size(trained) / 2**30 > 6
  bits = size(params) * 8 / made['parameters']
  assert bits < 10
