"""Join: this process becomes one of a run's, and all of them end together."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator

import jax

from rlhfv_jax import files, hosts
from rlhfv_jax.hosts.watch import Watch, say


@contextlib.contextmanager
def joined(
  how: str, *, expected: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
  """A run of many processes, if `how` says so; its failure is that of all.

  '' is one process; '1' asks the cluster (TPU pods, GKE, Slurm); and
  'HOST:PORT,PROCESSES,PROCESS' says it. Of what is expected the sentence is
  enough, anything else is told with its traceback.
  """
  if not how:
    yield
    return
  _join(how)
  me = jax.process_index()
  watch = Watch(me, jax.process_count())
  try:
    with _hushed(not hosts.leader()):
      yield
    hosts.meet()
  except BaseException as error:
    if isinstance(error, hosts.Terminated) and error.everyone:
      watch.close()
      raise
    if isinstance(error, jax.errors.JaxRuntimeError):
      watch.wait()  # for who is gone, if that is what broke a step
    if isinstance(error, hosts.Terminated):
      said = 'SIGTERM'
    elif isinstance(error, expected):
      said = f'error: {error}'
      say(me, said)
    else:
      said = f'{type(error).__name__}: {error}'.partition('\n')[0]
      say(me, traceback.format_exc())
    watch.tell(said)
    # Not through exit handlers, which wait for the others.
    os._exit(error.code if isinstance(error, hosts.Terminated) else 1)
  watch.close()


def _join(how: str) -> None:
  # SIGTERM is ours: all stop after the same step, and elsewhere at once.
  jax.config.update('jax_enable_preemption_service', False)
  options = {}
  if how != '1':
    parts = how.split(',')
    if len(parts) != 3 or not (parts[1] + parts[2]).isdigit():
      raise ValueError(
        f'RLHFV_DISTRIBUTED={how}: write 1, or HOST:PORT,PROCESSES,PROCESS'
      )
    options = {
      'coordinator_address': parts[0],
      'num_processes': int(parts[1]),
      'process_id': int(parts[2]),
    }
  # The watch is quicker, and knows a machine that sleeps from one that is dead.
  jax.distributed.initialize(**options, heartbeat_timeout_seconds=600)
  signal.signal(signal.SIGTERM, _terminate)
  if not hosts.leader():
    files.only_read()


def _terminate(*_) -> None:
  raise hosts.Terminated


@contextlib.contextmanager
def _hushed(yes: bool) -> Iterator[None]:
  """Without a word: logs and progress are process 0's."""
  if not yes:
    yield
    return
  with (
    open(os.devnull, 'w') as nowhere,
    contextlib.redirect_stdout(nowhere),
    contextlib.redirect_stderr(nowhere),
  ):
    yield
