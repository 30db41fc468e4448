"""Adapters out and in: what peft computes with them, and what a judge keeps."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import LINEAR, LLAVA, TEXT, file, shards, state
from flax.traverse_util import flatten_dict, unflatten_dict
from originals import error
from test_convert_export import (
  CONFIGS,
  LLAMA3,
  adapted,
  asked,
  made,
  opened,
  ours,
  theirs,
)
from test_convert_import import assert_identical

from rlhfv_jax import convert
from rlhfv_jax.models import quantize

torch = pytest.importorskip('torch')


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


def test_adapters_without_a_base_that_others_find(tmp_path):
  params = adapted('llava')
  for base in ('', 'llava-vicuna-final-padding', '/data/base', str(tmp_path)):
    with pytest.raises(ValueError, match='no use without their base'):
      convert.export_weights(
        params, LLAVA, tmp_path / 'out', format='peft', base=base
      )
  with pytest.raises(ValueError, match='have none'):
    convert.export_weights(
      made('llava'), LLAVA, tmp_path / 'out', format='peft', base='org/base'
    )
  assert not (tmp_path / 'out').exists()
