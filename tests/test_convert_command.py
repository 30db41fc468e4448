"""python -m rlhfv_jax convert: what a user types, and what it leaves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from checkpoints import (
  LLAVA,
  TEXT,
  expected,
  shards,
  state,
)
from flax.traverse_util import flatten_dict, unflatten_dict
from test_convert_export import adapted, made
from test_convert_import import assert_identical

from rlhfv_jax import __main__, convert, files, sharding
from rlhfv_jax.checkpoint import save_params, stored
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import tokenizer
from rlhfv_jax.models import lora
from rlhfv_jax.train import adapt

torch = pytest.importorskip('torch')


def mesh():
  return sharding.make_mesh((8, 1, 1))


def run(*args):
  __main__.main(['convert', *map(str, args), '--mesh=8,1,1'])


def described(path, config, **rest):
  """The numbers of a small model, as --model reads them."""
  rest = {'template': 'vicuna_v1', 'image': {'policy': 'pad'}} | rest
  files.write_json(path, {'model': config, **rest})
  return path


def original(path, tensors):
  """A checkpoint with a tokenizer beside it."""
  from vicunas import folder

  shards(path, tensors)
  folder(path)
  return path


@pytest.fixture
def words():
  from vicunas import SP

  return len(SP)


def test_in_and_out_and_in_again(tmp_path, capsys):
  model = described(tmp_path / 'model.json', LLAVA)
  shards(tmp_path / 'theirs', state('hf'))
  run(
    'import', f'--from={tmp_path / "theirs"}', f'--model={model}',
    f'--to={tmp_path / "a"}',
  )  # fmt: skip
  number = sum(x.size for x in jax.tree.leaves(expected()))
  assert f'{number:,} parameters' in capsys.readouterr().out
  assert_identical(workdir.read(tmp_path / 'a', mesh()), expected())
  said = files.read_json(tmp_path / 'a/model.json')
  assert said['model'] == LLAVA and said['template'] == 'vicuna_v1'
  assert said['sources'] == [
    {'from': str(tmp_path / 'theirs'), 'revision': None, 'format': 'hf'}
  ]
  run('export', f'--from={tmp_path / "a"}', f'--to={tmp_path / "out"}')
  back = convert.import_weights(tmp_path / 'out', LLAVA)
  assert_identical(back, expected())


def test_the_tokenizer_goes_with_the_model(tmp_path, words):
  """One that stands in a tokenizer.model alone; not that of the tower."""
  config = {
    **LLAVA,
    'text': {**TEXT, 'vocab_size': words},
    'image_token': words,
  }
  model = described(tmp_path / 'model.json', config)
  tower, rest = {}, {}
  for name, x in state('hf').items():
    if 'embed_tokens' in name or 'lm_head' in name:
      x = torch.randn(words, TEXT['width'])
    (tower if 'vision' in name else rest)[name] = x
  shards(tmp_path / 'clip', tower)
  tokenizer.save(tokenizer.word_tokenizer(['other']), tmp_path / 'clip')
  original(tmp_path / 'llava', rest)
  run(
    'import', f'--from={tmp_path / "clip"}', f'--from={tmp_path / "llava"}',
    f'--model={model}', f'--to={tmp_path / "a"}',
  )  # fmt: skip
  raw = (tmp_path / 'llava/tokenizer.model').read_bytes()
  assert (tmp_path / 'a/tokenizer/tokenizer.model').read_bytes() == raw
  run(
    'export', f'--from={tmp_path / "a"}', f'--to={tmp_path / "out"}',
    '--base=org/base', '--data=openbmb/RLHF-V-Dataset',
  )  # fmt: skip
  processor = transformers.AutoProcessor.from_pretrained(tmp_path / 'out')
  assert processor.image_token_id == words
  card = (tmp_path / 'out/README.md').read_text()
  assert 'org/base' in card and 'openbmb/RLHF-V-Dataset' in card
  back = convert.import_weights(tmp_path / 'out', config)
  assert_identical(back, workdir.read(tmp_path / 'a', mesh()))


def test_the_same_again_is_done_and_another_is_refused(tmp_path, capsys):
  model = described(tmp_path / 'model.json', LLAVA)
  shards(tmp_path / 'theirs', state('hf'))
  asked = ('import', f'--from={tmp_path / "theirs"}', f'--model={model}',
           f'--to={tmp_path / "a"}')  # fmt: skip
  run(*asked)
  before = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob('a/**/*'))
  run(*asked)
  assert 'has it already' in capsys.readouterr().out
  after = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob('a/**/*'))
  assert before == after
  with pytest.raises(SystemExit):
    run(*asked, '--dtype=bfloat16')
  assert 'holds another import' in capsys.readouterr().err


@pytest.mark.parametrize(
  'args, words',
  [
    (['import', '--from=nowhere', '--model=llava15_7', '--to=x'],
     "no model 'llava15_7'; it may be: llava15_7b"),
    (['import', '--from=nowhere', '--model=llava15_7b', '--to=x'],
     'nowhere: no such folder'),
    (['import', '--from=.', '--model=llava15_7b', '--to=x', '--revision=a'],
     '--revision=a is of a repository on the hub'),
    (['export', '--from=.', '--to=x'], 'neither model.json'),
  ],
)  # fmt: skip
def test_trouble_is_one_line(tmp_path, monkeypatch, capsys, args, words):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as stop:
    run(*args)
  assert stop.value.code == 1
  said = capsys.readouterr().err
  assert said.startswith('error: ') and words in said and '\n  File' not in said


def ran(folder, config, base):
  """What a training leaves: its config, and what it began with."""
  files.write_json(folder / 'config.json', {'config': {
    'model': config, 'init': str(base), 'chat': {'template': 'vicuna_v1'},
    'image': {'policy': 'pad'}, 'data': {'source': 'rlhfv:here'},
  }})  # fmt: skip


def test_a_run_is_exported_with_what_it_trained(tmp_path):
  """Adapters are written alone there; their base was rounded meanwhile."""
  base, folder = tmp_path / 'base', tmp_path / 'run'
  about = workdir.About(LLAVA, 'vicuna_v1', 'pad', preset='llava15_7b',
                        sources=[{'from': 'org/base'}])  # fmt: skip
  workdir.write(base, made('llava'), about, sources=[])
  whole = flatten_dict(adapted('llava'))
  trained = {k: x for k, x in whole.items() if k[-1] in ('lora_a', 'lora_b')}
  save_params(folder / 'params', unflatten_dict(trained))
  start = adapt.Start('int8', (), 0, rank=3, alpha=7.0, targets='.*')
  adapt.note(folder, base / 'params', start)
  ran(folder, LLAVA, base)
  assert_identical(workdir.read(folder, mesh()), unflatten_dict(whole))
  run('export', f'--from={folder}', f'--to={tmp_path / "merged"}')
  run('export', f'--from={folder}', f'--to={tmp_path / "lora"}',
      '--format=peft')  # fmt: skip
  back = convert.import_weights(tmp_path / 'merged', LLAVA)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
    back, lora.merge(unflatten_dict(whole)),
  )  # fmt: skip
  settings = files.read_json(tmp_path / 'lora/adapter_config.json')
  assert settings['base_model_name_or_path'] == 'org/base'
  card = (tmp_path / 'merged/README.md').read_text()
  assert 'Llama 2' in card and 'rlhfv:here' in card


def adapters_on(folder, base, trained):
  """What a training of adapters leaves, on the parameters in `base`."""
  save_params(folder / 'params', unflatten_dict(trained))
  start = adapt.Start('float32', (), 0, rank=3, alpha=7.0, targets='.*')
  adapt.note(folder, base / 'params', start)
  ran(folder, LLAVA, base)
  return folder


def test_adapters_are_for_what_they_are_on_and_for_nothing_else(
  tmp_path, capsys
):
  """Not for what that was trained from: there they would do something else."""
  base, sft = tmp_path / 'base', tmp_path / 'sft'
  about = workdir.About(LLAVA, 'vicuna_v1', 'pad',
                        sources=[{'from': 'org/base'}])  # fmt: skip
  workdir.write(base, made('llava'), about, sources=[])
  save_params(sft / 'params', made('llava'))
  ran(sft, LLAVA, base)
  both = dataclasses.replace(
    about, sources=[{'from': 'org/base'}, {'from': 'org/lora'}]
  )
  workdir.write(tmp_path / 'both', adapted('llava'), both, sources=[])
  own = lora.adapters(adapted('llava'))
  for under, found in ((base, True), (sft, False), (tmp_path / 'both', False)):
    folder = adapters_on(
      tmp_path / f'on-{under.name}', under, flatten_dict(own)
    )
    out = tmp_path / f'out-{under.name}'
    asked = ('export', f'--from={folder}', f'--to={out}', '--format=peft')
    if found:
      run(*asked)
    else:
      with pytest.raises(SystemExit):
        run(*asked)
      assert 'export it first' in capsys.readouterr().err
      run(*asked, '--base=org/sft')
    settings = files.read_json(out / 'adapter_config.json')
    wanted = 'org/base' if found else 'org/sft'
    assert settings['base_model_name_or_path'] == wanted


@pytest.mark.parametrize(
  'name, format',
  [('liuhaotian/llava-v1.5-7b', 'llava'), ('lmsys/vicuna-7b-v1.5', 'llama')],
)
def test_adapters_are_for_a_base_that_peft_loads(
  tmp_path, capsys, name, format
):
  """The original LLaVA has names of its own, and a decoder is not the whole."""
  base, sources = tmp_path / 'base', [{'from': name, 'format': format}]
  about = workdir.About(LLAVA, 'vicuna_v1', 'pad', sources=sources)
  workdir.write(base, made('llava'), about, sources=[])
  own = flatten_dict(lora.adapters(adapted('llava')))
  folder = adapters_on(tmp_path / 'run', base, own)
  asked = ('export', f'--from={folder}', f'--to={tmp_path / "out"}',
           '--format=peft')  # fmt: skip
  with pytest.raises(SystemExit):
    run(*asked)
  said = capsys.readouterr().err
  assert f'{name} was imported in format' in said and '--base=ORG/NAME' in said
  run(*asked, '--base=llava-hf/llava-1.5-7b-hf')
  assert (tmp_path / 'out/adapter_model.safetensors').exists()


def test_what_was_trained_beside_adapters_is_not_left_out(tmp_path, capsys):
  base = tmp_path / 'base'
  about = workdir.About(LLAVA, 'vicuna_v1', 'pad',
                        sources=[{'from': 'org/base'}])  # fmt: skip
  workdir.write(base, made('llava'), about, sources=[])
  own = flatten_dict(lora.adapters(adapted('llava')))
  moved = {('mm_projector', 'linear_1', 'bias'): jnp.ones(32)}
  folder = adapters_on(tmp_path / 'run', base, own | moved)
  with pytest.raises(SystemExit):
    run('export', f'--from={folder}', f'--to={tmp_path / "lora"}',
        '--format=peft')  # fmt: skip
  said = capsys.readouterr().err
  assert 'mm_projector/linear_1/bias' in said and '--format=hf' in said
  run('export', f'--from={folder}', f'--to={tmp_path / "out"}')
  back = convert.import_weights(tmp_path / 'out', LLAVA)
  assert (back['mm_projector']['linear_1']['bias'] == 1).all()


def test_a_run_that_trained_all_of_it_is_exported_as_it_is(tmp_path):
  base, folder = tmp_path / 'base', tmp_path / 'run'
  about = workdir.About(LLAVA, 'vicuna_v1', 'pad')
  workdir.write(base, made('llava'), about, sources=[])
  other = jax.tree.map(lambda x: x + jnp.ones((), x.dtype), made('llava'))
  save_params(folder / 'arms/dpo/params', other)
  ran(folder, LLAVA, base)
  assert_identical(workdir.read(folder / 'arms/dpo', mesh()), other)
  run('export', f'--from={folder / "arms/dpo"}', f'--to={tmp_path / "out"}')
  assert_identical(convert.import_weights(tmp_path / 'out', LLAVA), other)
  with pytest.raises(SystemExit):
    run('export', f'--from={folder}', f'--to={tmp_path / "other"}')


def test_what_was_saved_is_told_without_reading_it(tmp_path):
  params = made('llava', 'mixed')
  save_params(tmp_path / 'params', params)
  told = stored(tmp_path / 'params')
  for shape, x in zip(
    jax.tree.leaves(told), jax.tree.leaves(params), strict=True
  ):
    assert (shape.shape, shape.dtype) == (x.shape, x.dtype)
