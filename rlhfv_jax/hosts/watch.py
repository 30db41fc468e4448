"""Watch: whether the other processes of a run are alive, and the end if not.

Every process says once a second that it is there. One that is silent for long,
or said why it ends, ends the others too, wherever they wait.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from rlhfv_jax import hosts

BEAT = 1.0  # seconds
SILENT = 20  # own beats without one of another's: a machine may sleep


class Watch:
  """A thread that ends this process when another one is gone."""

  def __init__(self, me: int, processes: int):
    self._me, self._processes = me, processes
    self._over = threading.Event()
    self._heard = {p: ('', 0) for p in range(processes)}  # beat, and since when
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def tell(self, why: str) -> None:
    """Says why this process ends, and gives the others time to read it."""
    self.close()
    try:
      hosts.store().key_value_set(f'ended/{self._me}', why)
    except Exception:  # process 0 is gone, and the others know
      return
    time.sleep(3 * BEAT)

  def wait(self) -> None:
    """As long as it takes to find out who is gone: then this never returns."""
    self._over.wait((SILENT + 3) * BEAT)

  def close(self) -> None:
    self._over.set()
    self._thread.join()

  def _run(self) -> None:
    beat, looking = 0, ThreadPoolExecutor(1, 'watch')
    while not self._over.wait(BEAT):
      try:
        look = looking.submit(self._look, beat := beat + 1)
        gone = look.result(SILENT * BEAT)
      except Exception:
        gone = 0, 'cannot be reached'
      if gone and not self._over.is_set():
        process, why = gone
        say(
          self._me,
          f'error: process {process} of {self._processes} {why}, so this one '
          'ends too. What the last checkpoint has is kept: the same command on '
          'all goes on from there',
        )
        if self._me == 0:  # the others meet here, and abort where it is gone
          time.sleep(5 * BEAT)
        os._exit(1)

  def _look(self, beat: int) -> tuple[int, str] | None:
    store = hosts.store()
    store.key_value_set(f'alive/{self._me}', str(beat), allow_overwrite=True)
    for name, why in store.key_value_dir_get('ended/'):
      return int(name.split('/')[-1]), f'ended ({why})'
    beats = {
      int(name.split('/')[-1]): told
      for name, told in store.key_value_dir_get('alive/')
    }
    for process, (told, since) in self._heard.items():
      if beats.get(process, '') != told:
        self._heard[process] = beats[process], beat
      elif beat - since > SILENT:
        return process, f'has been silent for {SILENT} s'
    return None


def say(me: int, text: str) -> None:
  """A line of a process whose output is hushed otherwise."""
  name = f'process {me}: ' if me else ''
  print(name + text, file=sys.__stderr__, flush=True)
