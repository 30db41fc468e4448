"""Configs: every file loads, a wrong key names the right one."""

import subprocess
import sys

import pytest

from rlhfv_jax import options
from rlhfv_jax.stages import STAGES, problem, provenance


@pytest.mark.parametrize('flag', [
  'configs/ddpo.py', 'configs/ddpo.py:playroom,llava', 'configs/ddpo.py:paper',
  'configs/ddpo.py:released', 'configs/ddpo.py:small,blind', 'configs/sft.py',
  'configs/sft.py:llava,small', 'configs/ddpo.py:playroom,lora',
  'configs/sft.py:lora,small',
])  # fmt: skip
def test_every_config_loads_locked_and_names_real_stages(flag):
  config = options.load(flag)
  with pytest.raises(AttributeError):
    config.losss = 1
  assert set(config.stages) <= set(STAGES)


@pytest.mark.parametrize('flag', ['configs/ddpo.py', 'configs/sft.py'])
def test_every_point_of_a_sweep_is_a_legal_override(flag):
  config = options.load(flag)
  points = options.module(flag).sweep()
  made = [problem.overridden(config, p) for p in points]
  hashes = {provenance.digest(provenance.plain(m)) for m in made}
  assert len(hashes) == len(points)


def test_recipes_differ_where_paper_and_script_differ():
  paper = options.load('configs/ddpo.py:paper')
  released = options.load('configs/ddpo.py:released')
  numbers = lambda c: (c.loss.beta, c.loss.gamma, c.loss.normalize,
                       c.train.batch, c.train.lr, c.data.diff)  # fmt: skip
  assert numbers(paper) == (0.5, 5.0, True, 32, 5e-7, 'exact')
  assert numbers(released) == (0.1, 1.1, False, 8, 5e-7, 'muffin')


@pytest.mark.parametrize('arg, says', [
  ('--config.loss.gama=5', 'did you mean --config.loss.gamma'),
  ('--config.dpo_beta=0.5', 'here it is --config.loss.beta'),
  ('--config.loss.dpo_token_weight=5', 'here it is --config.loss.gamma'),
  ('--config.train.learning_rate=1', 'here it is --config.train.lr'),
  ('--config.lora_r=8', 'here it is --config.lora.rank'),
  ('--config.gamma=5', 'did you mean --config.loss.gamma'),
  ('--config.train.step=5', 'did you mean --config.train.steps'),
  ('--config.qqqq=5', 'the top level has arms, base'),
])  # fmt: skip
def test_a_wrong_key_names_the_right_one(arg, says):
  with pytest.raises(ValueError, match=says):
    options.check(['main', '--config=configs/ddpo.py', arg])


def test_a_wrong_preset_or_file_says_what_there_is():
  with pytest.raises(ValueError, match='no preset .llavva.: this config has'):
    options.load('configs/ddpo.py:llavva')
  with pytest.raises(ValueError, match='did you mean configs/ddpo.py'):
    options.load('configs/dpo.py')
  with pytest.raises(ValueError, match='say which experiment'):
    options.check(['main'])


def test_the_command_line_ends_in_a_sentence_and_a_code():
  command = [sys.executable, '-m', 'rlhfv_jax.main',
             '--config=configs/ddpo.py', '--config.loss.gama=5']  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert 'did you mean --config.loss.gamma?' in done.stderr
  assert 'Traceback' not in done.stderr


def test_another_config_in_the_same_folder_says_what_differs(tmp_path):
  config = options.load('configs/ddpo.py')
  provenance.claim(tmp_path, config)
  provenance.claim(tmp_path, config)
  other = problem.overridden(config, {'loss': {'gamma': 1.0}})
  with pytest.raises(ValueError, match='loss.gamma = 1.0 here and 2.0 there'):
    provenance.claim(tmp_path, other)


def test_an_override_of_none_leaves_a_part_out():
  config = options.load('configs/ddpo.py')
  blind = problem.overridden(config, {'model': {'vision': None}})
  assert blind.model.vision is None and config.model.vision is not None
  assert blind.model.text == config.model.text
  for wrong in ({'model': {'visoin': None}}, {'los': {'gamma': 1.0}}):
    with pytest.raises(KeyError):
      problem.overridden(config, wrong)


def test_an_unwritable_workdir_is_a_sentence(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(ValueError, match='cannot be written'):
    provenance.claim(tmp_path / 'file' / 'run', options.load('configs/sft.py'))


def test_data_alone_means_its_source():
  """The short way, beside the keys of the section."""
  code = (
    'from ml_collections.config_flags import DEFINE_config_file as define; '
    "from rlhfv_jax import options; c = define('config'); "
    'options.run(lambda _: print(c.value.data.source, c.value.data.dev))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, '--config=configs/ddpo.py:small',
     '--config.data=annotations:W', '--config.data.dev=0.5'],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout == 'annotations:W 0.5\n', done.stderr[-500:]


@pytest.mark.parametrize(
  'flag, skip',
  [('sft', True), ('reward', True), ('ppo', True), ('ddpo', False)],
)
def test_recipes_whose_data_is_known_to_be_uneven_leave_rows_out(flag, skip):
  config = options.load(f'configs/{flag}.py:llava_rlhf_7b')
  assert config.data.skip == skip
