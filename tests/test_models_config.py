"""Numbers to a model: what is built of them, and which are refused."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from test_models import SEES, TEXT, VISION, made

from rlhfv_jax import models
from rlhfv_jax.batch import Batch


def test_init_is_pure_and_stacks_the_layers():
  model, _ = made()
  init = jax.jit(models.init, static_argnums=0)
  params, other = (init(model, jax.random.key(i)) for i in (3, 4))
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
  assert set(params) == {'language_model', 'vision_tower', 'mm_projector'}
  language = params['language_model']
  layers = language['layers']
  assert layers['self_attn']['k_proj']['kernel'].shape == (2, 32, 16)
  assert (layers['input_layernorm']['weight'] == 1).all()
  head = language['lm_head']['kernel']
  assert 0.8 < head.std() * 32**0.5 < 1.2  # one over the root of its inputs
  first, second = layers['mlp']['gate_proj']['kernel']
  assert (first != second).all()
  assert (other['language_model']['lm_head']['kernel'] != head).all()


def test_a_config_dict_builds_what_a_dict_builds():
  config = ml_collections.FrozenConfigDict(SEES)
  assert models.build(config) == models.build(SEES)
  blind = {**SEES, 'vision': None}
  assert models.build(ml_collections.ConfigDict(blind)) == models.build(blind)
  assert models.build(blind).config.image_tokens == 0
  assert hash(models.build(config)) == hash(models.build(SEES))


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(txt={}), "unknown key 'txt'; it may be: text"),
    (dict(text={**TEXT, 'kv_head': 2}), "'kv_head'; it may be: kv_heads"),
    (dict(text={'width': 32}), 'text: missing vocab_size, mlp, depth'),
    (dict(text={**TEXT, 'heads': 5}), 'width 32 is no multiple of heads 5'),
    (dict(text={**TEXT, 'kv_heads': 3}), 'heads 4 is no multiple of kv_heads'),
    (dict(text={**TEXT, 'width': 20}), 'leaves 5: choose an even head size'),
    (dict(text={**TEXT, 'rope_factor': 0}), 'rope_factor 0.* above 0'),
    (dict(text={**TEXT, 'rope_low': 4.0}), 'rope_high 4.0.* low < high'),
    (dict(vision={**VISION, 'patch': 5}), 'image_size 16 is no multiple'),
    (dict(vision={**VISION, 'kind': 'dino'}), "'dino' is none of beit3, clip"),
    (dict(vision={**VISION, 'queries': 2}), 'with 2 queries'),
    (dict(image_token=None), 'image_token is missing'),
    (dict(connector='mlp'), "'mlp' is none of linear, mlp2x"),
    (dict(dtype='fp16'), "'fp16' is none of"),
  ],
)
def test_a_wrong_number_is_named(change, message):
  with pytest.raises(ValueError, match=message):
    models.build({**SEES, **change})


def test_a_path_longer_than_the_model_is_refused():
  model, params = made('reads')
  lengths = np.array([[50, 10, 10]], np.int32)

  def shapes(bucket):
    tokens = np.ones((1, bucket[0] + 2 * bucket[1]), np.int32)
    batch = Batch({'tokens': tokens, 'lengths': lengths}, bucket)
    return jax.eval_shape(
      functools.partial(models.hidden, model), params, batch
    )

  assert shapes((50, 14, 2)).shape == (1, 78, 32)
  with pytest.raises(ValueError, match='position 65.*max_length is 64'):
    shapes((50, 15, 2))
