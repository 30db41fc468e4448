"""What is wrong with files of weights is said by name, with the way out."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from checkpoints import LLAVA, file, shards, state

from rlhfv_jax import convert
from rlhfv_jax.convert import hub

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  """A whole LLaVA-1.5 in shards."""
  return shards(tmp_path_factory.mktemp('original'), state('llava'))


@pytest.fixture
def copy(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'copy')


def refused(path, *words, config=LLAVA, **how):
  """An import is refused in these words, in this order."""
  with pytest.raises(ValueError) as error:
    convert.import_weights(path, config, **how)
  said = str(error.value)
  assert re.search('.*'.join(map(re.escape, words)), said, re.DOTALL), said
  assert len(said) < 2000
  return said


def test_a_folder_without_weights(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  refused(tmp_path, str(tmp_path), 'has no weights', '*.safetensors',
          'in it: config.json')  # fmt: skip
  (tmp_path / 'sft_model').mkdir()
  file(tmp_path / 'sft_model' / 'model.safetensors', {'x': torch.ones(1)})
  refused(tmp_path, 'there are some in sft_model: name one')
  refused(tmp_path / 'nowhere', 'nowhere', 'no such folder')


@pytest.mark.parametrize('name', ['nothing', 'not a/name', 'a/../b', '/a/b'])
def test_what_is_no_hub_id_is_not_looked_up(name):
  refused(name, f'{name}: no such folder, and no ORG/NAME')


def test_the_hub_out_of_reach(monkeypatch):
  import huggingface_hub.constants

  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  refused('org/no-such-model', 'org/no-such-model', 'cannot be fetched',
          'give the folder of a copy')  # fmt: skip


def test_the_revision_of_what_was_fetched():
  commit = '0123456789abcdef' * 2 + '01234567'
  cache = Path('/c/snapshots')
  assert hub.commit(cache / commit / 'sft_model') == commit
  assert hub.commit(cache / commit) == commit
  assert hub.commit(cache / 'mine') is hub.commit(cache) is None


def test_a_shard_that_is_not_there(copy):
  name = 'pytorch_model-00002-of-00003.bin'
  (copy / name).unlink()
  refused(copy, name, 'is not there', 'index.json names it', 'fetch it again')
  (copy / 'pytorch_model.bin.index.json').unlink()
  refused(copy, '2 of 3 shards', '1, 3', 'fetch the others')


@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize('suffix', ['.bin', '.safetensors'])
def test_a_half_downloaded_shard(tmp_path, suffix, share):
  path = file(tmp_path / f'model{suffix}', state('llava'))
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * share)])
  said = refused(tmp_path, str(path), 'fetch it again')
  if share and suffix == '.safetensors':
    assert re.search(r'ends after [\d,]+ of [\d,]+ bytes', said)


@pytest.mark.parametrize('share', [0.1, 0.9])
def test_a_half_downloaded_file_of_the_old_kind(tmp_path, share):
  path = tmp_path / 'pytorch_model.bin'
  torch.save(state('llava'), path, _use_new_zipfile_serialization=False)
  whole = convert.import_weights(tmp_path, LLAVA)
  assert whole['language_model']['norm']['weight'].shape == (32,)
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * share)])
  refused(tmp_path, str(path))


@pytest.mark.parametrize(
  'content, what',
  [
    (b'<!DOCTYPE html><html>No such model</html>', 'is text'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'LFS'),
    (bytes(range(200, 256)) * 9, 'no file of weights'),
  ],
)
@pytest.mark.parametrize('suffix', ['.bin', '.safetensors'])
def test_a_file_that_is_not_what_its_name_says(tmp_path, suffix, content, what):
  path = tmp_path / f'model{suffix}'
  path.write_bytes(content)
  refused(tmp_path, str(path), what)


def test_a_header_that_is_damaged(tmp_path):
  path = file(tmp_path / 'model.safetensors', state('llava'))
  content, name = path.read_bytes(), 'model.norm.weight'
  length = 8 + int.from_bytes(content[:8], 'little')
  fine = json.loads(content[8:length])
  for change, words in (
    ({'data_offsets': [0, 4]}, f'{name} is (32,) of F32, which are 128 bytes'),
    ({'shape': [4, 4]}, f'{name} is (4, 4) of F32'),
    ({'shape': None}, f'does not say what {name} is'),
    ({'data_offsets': [1]}, f'does not say what {name} is'),
  ):
    header = json.dumps(fine | {name: fine[name] | change}).encode()
    size = len(header).to_bytes(8, 'little')
    path.write_bytes(size + header + content[length:])
    refused(tmp_path, str(path), words, 'fetch the file again')


@pytest.mark.parametrize('content', ['<!DOCTYPE html>', '{"r": 4', '[]', '{}'])
@pytest.mark.parametrize(
  'name', ['pytorch_model.bin.index.json', 'adapter_config.json', 'config.json']
)
def test_settings_that_are_no_settings(copy, name, content):
  (copy / name).write_text(content)
  if (name, content) != ('config.json', '{}'):  # which says nothing wrong
    refused(copy, str(copy / name), 'fetch it again')


def test_torch_under_the_name_of_safetensors_and_the_reverse(tmp_path):
  a = file(tmp_path / 'a' / 'model.bin', state('llava'))
  a.rename(a.with_suffix('.safetensors'))
  refused(tmp_path / 'a', 'a file of torch', 'rename it to .bin')
  b = file(tmp_path / 'b' / 'model.safetensors', state('llava'))
  b.rename(b.with_suffix('.bin'))
  refused(tmp_path / 'b', 'safetensors', 'rename it to .safetensors')
  gguf = tmp_path / 'model.gguf'
  gguf.write_bytes(b'GGUF')
  refused(gguf, 'model.gguf', '.safetensors, .bin', 'not from .gguf')


class Code:
  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_pickle_with_code_in_it_is_not_run(tmp_path, zipped):
  inside = state('llava') | {'hello': Code(tmp_path / 'ran')}
  path = tmp_path / 'pytorch_model.bin'
  torch.save(inside, path, _use_new_zipfile_serialization=zipped)
  refused(tmp_path, str(path), 'holds code (posix.mkdir)', 'safetensors')
  assert not (tmp_path / 'ran').exists()


def test_a_pickle_of_something_else(tmp_path):
  torch.save([torch.ones(3)], tmp_path / 'pytorch_model.bin')
  refused(tmp_path, 'pytorch_model.bin', 'list, no table of named tensors')


def test_torch_is_needed_for_its_own_files_alone(tmp_path, monkeypatch):
  file(tmp_path / 'a/model.safetensors', state('hf'))
  file(tmp_path / 'b/pytorch_model.bin', state('hf'))
  monkeypatch.setitem(sys.modules, 'torch', None)
  convert.import_weights(tmp_path / 'a', LLAVA)
  refused(tmp_path / 'b', 'pytorch_model.bin is read by torch', 'pip install')
