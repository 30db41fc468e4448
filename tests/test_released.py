"""A released model from its files to DDPO and back: what a user would type."""

import json

import jax
import numpy as np
import pytest
import transformers
from flax.traverse_util import flatten_dict
from originals import scattered
from runs import run

from rlhfv_jax import files, models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.convert import workdir
from rlhfv_jax.convert.shards import scan
from rlhfv_jax.data import chat
from rlhfv_jax.data.encode import encode
from rlhfv_jax.data.images import load
from rlhfv_jax.data.sources import open as open_source
from rlhfv_jax.generate import Decoding, generate

torch = pytest.importorskip('torch')
pytest.importorskip('sentencepiece')
pytestmark = pytest.mark.slow

CONVERT, DATA = (['-m', 'rlhfv_jax', name] for name in ('convert', 'data'))
# The preset, at a size that a test can train.
CONFIG = """
from configs import ddpo

def get_config(arg=None):
  c = ddpo.get_config(arg)
  c.model.update({model})
  c.model.update({{'dtype': 'float32', 'remat': 'none'}})
  c.image.size = c.model.vision.image_size
  c.train.update({{'batch': 8, 'steps': 6, 'lr': 1e-3, 'save_every': 3}})
  c.reference.batch = 16
  return c
"""


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """LLaVA as transformers publishes it, and pairs as TRL does."""
  import vicunas

  home = tmp_path_factory.mktemp('released')
  vicunas.folder(home / 'hub')
  words = len(chat.load(home / 'hub'))
  text = dict(vocab_size=words, width=32, mlp=48, depth=3, heads=4,
              kv_heads=2, max_length=512, rms_eps=1e-5)  # fmt: skip
  vision = dict(kind='clip', image_size=12, patch=4, width=24, mlp=32, depth=3,
                heads=3)  # fmt: skip
  theirs = transformers.LlavaForConditionalGeneration(
    transformers.LlavaConfig(
      text_config=transformers.LlamaConfig(
        vocab_size=-(-(words + 1) // 64) * 64, hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, rms_norm_eps=1e-5,
        rope_parameters={'rope_type': 'default', 'rope_theta': 10000.0},
      ),
      vision_config=transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=3, image_size=12, patch_size=4,
      ),
      image_token_index=words, image_seq_length=9,
    )
  )  # fmt: skip
  scattered(theirs).save_pretrained(home / 'hub')
  model = dict(text=text, vision=vision, connector='mlp2x', image_token=words)
  files.write_json(home / 'model.json', model)
  (home / 'config.py').write_text(CONFIG.format(model=model))
  code, out = run(
    'import', f'--from={home / "hub"}', f'--model={home / "model.json"}',
    f'--to={home / "weights"}', module=CONVERT,
  )  # fmt: skip
  assert code == 0, out
  code, out = run(
    'convert', '--from=playroom:train/pairs/48', f'--to=trl:{home / "pairs"}',
    module=DATA,
  )  # fmt: skip
  assert code == 0, out
  return home


@pytest.mark.parametrize('how', ['whole', 'adapters'])
def test_from_the_hub_through_ddpo_and_back(released, tmp_path, how):
  presets = 'llava15_7b' + (',lora' if how == 'adapters' else '')
  train = ['-m', 'rlhfv_jax.main', f'--config={released}/config.py:{presets}']
  folder = tmp_path / 'run'
  code, out = run(
    f'--workdir={folder}', f'--config.init={released / "weights"}',
    f'--config.data.source=trl:{released / "pairs"}', module=train,
  )  # fmt: skip
  assert code == 0, out
  first, *_, last = (
    row for row in files.read_lines(folder / 'metrics.jsonl')
    if 'eval_loss' in row
  )  # fmt: skip
  assert first['eval_loss/dpo'] == pytest.approx(np.log(2), abs=1e-6)
  assert last['step'] == 6

  format = ['--format=peft', '--base=org/base'] if how == 'adapters' else []
  code, out = run(
    'export', f'--from={folder}', f'--to={tmp_path / "out"}', *format,
    module=CONVERT,
  )  # fmt: skip
  assert code == 0, out
  base = released / 'hub' if how == 'adapters' else tmp_path / 'out'
  theirs = transformers.AutoModelForImageTextToText.from_pretrained(base)
  if how == 'adapters':  # on the base as it was kept, in bfloat16
    peft = pytest.importorskip('peft')
    theirs = theirs.bfloat16().float()
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / 'out')

  about = workdir.about(folder)
  tokenizer = workdir.load_tokenizer(about.tokenizer)
  example = open_source(f'trl:{released / "pairs"}')[0]
  row = encode(
    example, tokenizer, chat.template(about.template), image_tokens=9,
    image_token=about.model['image_token'],
  )  # fmt: skip
  picture = load(example.image, 12, policy='pad')
  prompt, n = row.prompt, len(row.prompt)
  mesh = sharding.make_mesh((1, -1, 1))
  with jax.set_mesh(mesh):
    params = workdir.read(folder, mesh)
    batch = Batch(
      {'tokens': prompt[None], 'lengths': np.array([[n, 0]], np.int32),
       'images': picture[None]}, (n, 0, 1),
    )  # fmt: skip
    model = models.build({**about.model, 'dtype': 'float32', 'remat': 'none'})
    decoding = Decoding(max_new=16)
    ours, _ = generate(model, params, batch, decoding, jax.random.key(0))
  mean, std = (
    torch.tensor(x).reshape(3, 1, 1)
    for x in (
      (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    )
  )  # fmt: skip
  pixels = torch.tensor(picture).permute(2, 0, 1) / 255
  rows = theirs.config.text_config.vocab_size
  written = theirs.generate(
    input_ids=torch.tensor(prompt[None]).long(), max_new_tokens=16,
    pixel_values=((pixels - mean) / std)[None], do_sample=False,
    attention_mask=torch.ones(1, n).long(), eos_token_id=-1, pad_token_id=0,
    # Rows that only fill the matrix up are no words, and ours has none.
    suppress_tokens=[*range(len(tokenizer), rows)],
  )  # fmt: skip
  assert written[0, n:].tolist() == np.asarray(ours)[0].tolist()


def test_weights_of_another_size_say_what_differs(released, tmp_path):
  code, out = run(
    f'--workdir={tmp_path / "run"}', f'--config.init={released / "weights"}',
    f'--config.data.source=trl:{released / "pairs"}',
    module=['-m', 'rlhfv_jax.main', '--config=configs/ddpo.py:llava15_7b'],
  )  # fmt: skip
  assert code == 1
  assert 'text.mlp is 48 there and 11008 here' in out
  assert 'Traceback' not in out


def test_a_data_folder_that_is_not_there_is_a_sentence(released, tmp_path):
  train = ['-m', 'rlhfv_jax.main', f'--config={released}/config.py:llava15_7b']
  code, out = run(
    f'--workdir={tmp_path / "run"}', f'--config.init={released / "weights"}',
    f'--config.data.source=trl:{tmp_path / "nowhere"}', module=train,
  )  # fmt: skip
  assert code == 1
  assert 'nowhere' in out and 'Traceback' not in out
  assert json.loads((tmp_path / 'run/config.json').read_text())['config']


@pytest.fixture(scope='module')
def muffin(tmp_path_factory):
  """RLHF-V as its authors published it, wrong ids in its config and all."""
  import vicunas
  from checkpoints import BEIT3, TEXT, decoder, shards
  from checkpoints import muffin as tensors

  home = tmp_path_factory.mktemp('muffin')
  words = vicunas.SP.get_piece_size()
  added = {k: words + i for k, i in vicunas.MUFFIN.items()}
  vicunas.folder(home / 'hub', added=added)
  text = {**TEXT, 'vocab_size': words + 4, 'max_length': 512}
  inside = tensors() | {
    k: x.clone() for k, x in decoder(**text).state_dict().items()
  }
  shards(home / 'hub', inside, number=6)
  files.write_json(home / 'hub/config.json', {
    'architectures': ['Beit3LlavaLlamaForCausalLM'], 'model_type':
    'beit3_llava', 'hidden_size': 32, 'num_hidden_layers': 3, 'num_query': 5,
    'vocab_size': words + 4, 'rms_norm_eps': 1e-5, 'bos_token_id': 0,
    'eos_token_id': 1, 'pad_token_id': -1, 'mm_vision_select_layer': -2,
    'mm_vision_tower': 'beit3_large_patch16_448', 'use_mm_proj': True,
  })  # fmt: skip
  model = dict(text=text, vision=BEIT3, image_token=words + 1)
  files.write_json(home / 'model.json', {
    'model': model, 'template': 'muffin', 'image': {'policy': 'squash'},
  })  # fmt: skip
  (home / 'config.py').write_text(CONFIG.format(model=model))
  done('convert', '--from=playroom:train/pairs/48',
       f'--to=rlhfv:{home / "pairs.parquet"}', module=DATA)  # fmt: skip
  return home, inside


def done(*args, module):
  code, out = run(*args, module=module)
  assert code == 0, out


def test_rlhfv_from_its_files_through_the_released_recipe_and_back(muffin):
  home, inside = muffin
  model = f'--model={home / "model.json"}'
  done('import', f'--from={home / "hub"}', model, f'--to={home / "weights"}',
       module=CONVERT)  # fmt: skip
  done(
    f'--workdir={home / "run"}', f'--config.init={home / "weights"}',
    f'--config.data.source=rlhfv:{home / "pairs.parquet"}',
    '--config.train.steps=6',
    module=['-m', 'rlhfv_jax.main',
            f'--config={home}/config.py:rlhfv_13b,released'],
  )  # fmt: skip
  done('export', f'--from={home / "run"}', f'--to={home / "out"}',
       '--format=muffin', module=CONVERT)  # fmt: skip
  done('import', f'--from={home / "out"}', model, f'--to={home / "again"}',
       module=CONVERT)  # fmt: skip
  first, *_, last = (
    row for row in files.read_lines(home / 'run/metrics.jsonl')
    if 'eval_loss' in row
  )  # fmt: skip
  assert first['eval_loss/dpo'] == pytest.approx(np.log(2), abs=1e-6)
  assert last['step'] == 6
  # The names of the original, and what was trained under them.
  there = scan(home / 'out')
  dropped = {'mask_token', 'text_embed.weight'}
  assert {k: x.shape for k, x in there.items()} == {
    k: tuple(x.shape) for k, x in inside.items()
    if not any(k.endswith(name) for name in dropped)
  }  # fmt: skip
  mesh = sharding.make_mesh((1, -1, 1))
  before, trained, again = (
    flatten_dict(workdir.read(home / name, mesh))
    for name in ('weights', 'run', 'again')
  )
  assert before.keys() == trained.keys() == again.keys()
  for name, x in trained.items():
    np.testing.assert_array_equal(x, again[name], str(name))
  head = ('language_model', 'lm_head', 'kernel')
  assert not np.array_equal(trained[head], before[head])
  words = [chat.load(home / part).get_vocab() for part in ('out', 'hub')]
  assert words[0] == words[1]
