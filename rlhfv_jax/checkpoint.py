"""Checkpoints: the only file that imports orbax."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from rlhfv_jax import hosts

PACKAGE = 'orbax-checkpoint'  # whose version a run notes
keeping = ocp.training.preservation_policies
saving = ocp.training.save_decision_policies


class CheckpointError(RuntimeError):
  """A checkpoint that cannot be read, with the way out."""


def abstract(tree: Any) -> Any:
  """Shapes, dtypes and shardings: what a restore has to come out as."""
  like = lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=getattr(x, 'sharding', None)
  )
  return jax.tree.map(like, tree)


class Checkpoints:
  """State and feed position of a run, saved together, the newest `keep` kept.

  A save goes to a temporary folder and is renamed when whole, so a folder
  named by its step alone has been written to the end.
  """

  def __init__(self, folder: str | Path, *, keep: int = 2):
    self.folder = Path(folder).absolute()
    self.folder.mkdir(parents=True, exist_ok=True)
    self._newest = None
    self._saver = ocp.training.Checkpointer(
      self.folder,
      # The default skips a save while another is being written.
      save_decision_policy=saving.FixedIntervalPolicy(1),
      preservation_policy=keeping.LatestN(n=keep),
      cleanup_tmp_directories=True,
    )

  def save(self, step: int, state: Any, feed: Any) -> None:
    """Starts a save: the arrays are copied now, the disk comes later."""
    if step == self._newest:  # what is there is not taken away to come again
      return
    self._newest = step
    context = ocp.Context()
    # Of floats it saves hardly a tenth, and takes processors from the steps.
    context.array.saving.use_compression = False
    with context:
      self._saver.save_checkpointables_async(
        step, {'state': state, 'feed': feed}, overwrite=True
      )

  def restore(self, state: Any, feed: Any) -> tuple[Any, Any] | None:
    """The newest (state, feed) that reads whole, or None where none was saved.

    A damaged one is set aside, loudly; if all are damaged it is an error.
    """
    steps = sorted(self.steps(), reverse=True)
    like = {'state': abstract(state), 'feed': feed}
    for step in steps:
      path, aside = self.folder / str(step), self.folder / f'broken-{step}'
      found, trouble = {}, ''
      try:
        found = ocp.load_checkpointables(path, like)
      except Exception as error:
        trouble = first_line(error)
      # One that a single process cannot read is of no use to the others.
      trouble = next(filter(None, hosts.told(trouble)), '')
      if not trouble:
        return found['state'], found['feed']
      logging.error('%s does not read (%s); set aside as %s', path, trouble,
                    aside.name)  # fmt: skip
      with hosts.in_turn():
        if hosts.leader():
          shutil.rmtree(aside, ignore_errors=True)
          path.rename(aside)
    if steps:
      raise CheckpointError(
        f'{self.folder}: none of the checkpoints {steps} can be read, see '
        'broken-*: delete this folder to train this stage anew'
      )
    return None

  def steps(self) -> list[int]:
    """The steps saved so far."""
    names = (p.name for p in self.folder.iterdir() if p.is_dir())
    return [int(n) for n in names if re.fullmatch(r'\d+', n)]

  def close(self) -> None:
    """Waits for the save in flight."""
    self._saver.close()


def save_params(path: str | Path, params: Any) -> None:
  """Parameters alone, atomically: for the next stage and for export."""
  ocp.save(Path(path).absolute(), params, overwrite=True)


def load_params(path: str | Path, like: Any, *, part: bool = False) -> Any:
  """Parameters into the shapes and shardings of `like`, all or a part."""
  path = Path(path).absolute()
  if not path.exists():
    raise CheckpointError(f'{path}: no parameters there')
  try:
    context = ocp.Context()
    context.pytree.loading.partial_load = part
    with context:
      return ocp.load(path, abstract(like))
  except Exception as error:
    raise CheckpointError(
      f'{path}: the parameters do not read ({first_line(error)}): delete '
      'the folder to make them anew, or check that config.model is the one '
      'they were saved with'
    ) from error


def stored(path: str | Path) -> Any:
  """Shapes and dtypes of saved parameters, none of which is read."""
  path = Path(path).absolute()
  if not path.exists():
    raise CheckpointError(f'{path}: no parameters there')
  found = ocp.metadata(path).metadata
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), found)


def first_line(error: Exception) -> str:
  """An error in one line: Orbax's own run to pages."""
  return f'{type(error).__name__}: {str(error).strip().splitlines()[:1]}'
