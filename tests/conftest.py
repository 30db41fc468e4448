"""Eight fake devices and strict ranks, before any test touches jax."""

import jax
import pytest
from absl import flags
from runs import PROGRAMS, run

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Most of the tests' time is compilation: little is optimized, nothing twice.
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_compilation_cache_dir', PROGRAMS.name)
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
  folder = tmp_path_factory.mktemp('runs') / 'small'
  code, out = run(f'--workdir={folder}')
  assert code == 0, out
  return folder, out


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  """A Chromium, for tests that `browsing` lets run."""
  import browsing

  found = browsing.start(tmp_path_factory.mktemp('profile'))
  yield found
  found.quit()
