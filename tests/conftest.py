"""Eight fake devices and strict ranks, before any test touches jax."""

import jax
from absl import flags

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Most of the tests' time is compilation.
jax.config.update('jax_disable_most_optimizations', True)
# grain's workers read absl flags, which only `app.run` parses.
flags.FLAGS.mark_as_parsed()
