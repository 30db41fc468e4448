"""Eight fake devices and strict ranks, before any test touches jax."""

import os

import jax
import pytest
from absl import flags
from filelock import FileLock
from runs import ENV, run

from rlhfv_jax.data import chat

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Most of the tests' time is compilation: little is optimized, nothing twice.
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_compilation_cache_dir', ENV['JAX_COMPILATION_CACHE_DIR'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
# grain's workers read absl flags, which only `app.run` parses.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True)
def no_mesh_is_left():
  """A mesh a test leaves set would break whatever is tested after it."""
  yield
  assert jax.sharding.get_mesh().empty, 'a mesh is still set: use `with`'


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """A whole small run, and what it printed. Copy it before you change it."""
  shared = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    shared = shared.parent  # one run for all workers
  folder, printed = shared / 'small', shared / 'small.txt'
  with FileLock(shared / 'small.lock'):
    if not printed.exists():
      code, out = run(f'--workdir={folder}')
      assert code == 0, out
      printed.write_text(out)
  return folder, printed.read_text()


@pytest.fixture(scope='session')
def vicuna_home(tmp_path_factory):
  """A folder with a small tokenizer.model as a released Vicuna's."""
  import vicunas

  return vicunas.folder(tmp_path_factory.mktemp('t') / 'vicuna')


@pytest.fixture(scope='session')
def vicuna(vicuna_home):
  return chat.load(vicuna_home)


@pytest.fixture(scope='session')
def muffin(vicuna):
  return chat.fit(vicuna, chat.template('muffin'))


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  """A Chromium, for tests that `browsing` lets run."""
  import browsing

  found = browsing.start(tmp_path_factory.mktemp('profile'))
  yield found
  found.quit()
