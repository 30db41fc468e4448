"""What happens beside the loop: logs, checkpoints, evaluation, stopping.

Each is a function of (step, state, stats, batch); True ends the run.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from rlhfv_jax import files, hosts
from rlhfv_jax.checkpoint import Checkpoints, save_params
from rlhfv_jax.hosts import Terminated
from rlhfv_jax.metrics import Mean
from rlhfv_jax.train import adapt, nonfinite


def values(stats: dict[str, Mean]) -> dict[str, float]:
  """Means on the host. Waits for the device."""
  is_mean = lambda x: isinstance(x, Mean)
  means = jax.tree.map(lambda m: m.value(), stats, is_leaf=is_mean)
  return {k: float(v) for k, v in jax.device_get(means).items()}


class Metrics:
  """metrics.jsonl and TensorBoard; a resumed run drops what it will redo."""

  def __init__(self, folder: Path, *, start: int):
    self.path = folder / 'metrics.jsonl'
    kept = [r for r in files.read_lines(self.path) if r['step'] <= start]
    self.rows = kept
    self._main = hosts.leader()
    if self._main:
      from tensorboardX import SummaryWriter  # which imports torch, a second

      files.write_lines(self.path, kept)
      self._board = SummaryWriter(str(folder / 'tensorboard'))

  def write(self, step: int, row: dict[str, float]) -> None:
    row = {'step': step} | row
    self.rows.append(row)
    if self._main:
      files.append_lines(self.path, [row])
      for name in row.keys() - {'step'}:
        self._board.add_scalar(name, row[name], step)

  def close(self) -> None:
    if self._main:
      self._board.close()


class Log:
  """The progress bar and the log, one step behind so that nothing waits.

  The step's numbers are also checked here: the first one that is not finite
  ends the run, and says which tensor and which rows it came from.
  """

  def __init__(self, metrics: Metrics, *, name, start, steps, every, examine):
    self._metrics, self._every, self._examine = metrics, every, examine
    self._pending, self._clock, self._tokens = None, time.perf_counter(), 0.0
    self._bar = tqdm(
      total=steps, initial=start, desc=name, unit='step', file=sys.stderr,
      dynamic_ncols=True, mininterval=0.5,
    )  # fmt: skip

  def __call__(self, step, state, stats, batch) -> None:
    if self._pending:
      self._report(*self._pending, state)
    self._pending = step, stats, batch
    self._bar.update()

  def _report(self, step, stats, batch, state) -> None:
    row = values(stats)
    bad = [k for k in ('loss', 'grad_norm') if not np.isfinite(row[k])]
    if bad:
      self._bar.close()
      self._examine(step, bad, state, batch)
    self._tokens += row.pop('tokens', 0.0)
    if step % self._every == 0:
      now = time.perf_counter()
      row['tokens_per_second'] = self._tokens / (now - self._clock)
      self._clock, self._tokens = now, 0.0
      self._metrics.write(step, row)
      self._bar.set_postfix_str(f'loss {row["loss"]:.4f}')

  def catch_up(self, state) -> None:
    """The step in flight, whose numbers nobody has fetched yet."""
    if self._pending:
      self._report(*self._pending, state)
      self._pending = None

  def finish(self, state) -> None:
    self.catch_up(state)
    self._bar.close()


def examine(program, hyper, folder: Path) -> Callable[..., None]:
  """The end of a run whose numbers went bad: a sentence and a replay file."""

  def stop(step, bad, state, batch):
    replay = folder / f'replay-{step}.npz'
    nonfinite.save_replay(replay, step, batch, hyper)
    save_params(folder / f'replay-{step}-params',
                adapt.saved(state.params, program.labels))  # fmt: skip
    why = nonfinite.explain(program.loss, state.params, batch, hyper,
                            labels=program.labels)  # fmt: skip
    raise nonfinite.NonFinite(
      f'step {step}: {" and ".join(bad)} not finite: {why}. The parameters '
      f'before it and the batch are in {replay} and {replay.stem}-params; a '
      'lower config.train.lr is the usual way out'
    )

  return stop


def save_every(every: int, steps: int, save: Callable[[int, Any], None]):
  """A checkpoint every so many steps and at the end; of no halted state."""

  def hook(step, state, stats, batch) -> None:
    if (step % every == 0 or step == steps) and not bool(state.halted):
      save(step, state)

  return hook


@contextlib.contextmanager
def sigterm() -> Iterator[list]:
  """A list that is empty until this process gets a SIGTERM.

  What nobody has minded until the end is then as it would have been before.
  """
  asked = []
  before = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
  try:
    yield asked
  finally:
    signal.signal(signal.SIGTERM, before)
  if asked:
    signal.raise_signal(signal.SIGTERM)


def stop_when(
  asked: list, save: Callable[[int, Any], None], checkpoints: Checkpoints
):
  """Saves after the step in flight and ends the run, on all processes.

  Belongs behind the log, which keeps them within one step of each other.
  """

  def hook(step, state, stats, batch) -> None:
    last = hosts.last_step(step, asked=bool(asked))
    if last is not None and step >= last:
      save(step, state)
      checkpoints.close()
      print(f'SIGTERM: saved at step {step}; the same command goes on from '
            'there', file=sys.stderr)  # fmt: skip
      raise Terminated(everyone=True)

  return hook


def evaluate_every(
  every: int,
  steps: int,
  *,
  evaluate: Callable[[Any], dict[str, float]],
  metrics: Metrics,
  best: str,
  patience: int,
  folder: Path,
  saved: Callable[[Any], Any],
):
  """Held-out numbers (`eval_...`), the best parameters so far, early stop.

  `best` is 'metric:min' or 'metric:max'; `patience` counts evaluations
  without a new best, 0 never stops early.
  """
  name, _, way = best.partition(':')
  if way not in ('min', 'max'):
    raise ValueError(
      f'config.train.best = {best!r}: write it as metric:min or metric:max, '
      'like eval_loss:min'
    )
  sign = 1 if way == 'max' else -1

  def hook(step, state, stats=None, batch=None) -> bool | None:
    if step % every and step != steps:
      return None
    row = evaluate(state.params)
    if name not in row:
      raise ValueError(
        f'config.train.best = {best!r}: no such number here, there are '
        f'{", ".join(sorted(row))}'
      )
    past = [sign * r[name] for r in metrics.rows if name in r]
    metrics.write(step, row)
    if not past or sign * row[name] > max(past):
      save_params(folder / 'best', saved(state.params))
      files.write_json(folder / 'best.json', {'step': step, 'rule': best} | row)
      return None
    since = len(past) - int(np.argmax(past))
    return bool(patience) and since >= patience

  return hook


def mean_over(eval_step, batches: Iterable, hyper) -> Callable[[Any], dict]:
  """params -> exact means over all held-out batches, named eval_..."""

  def run(params) -> dict[str, float]:
    total = None
    for batch in batches():
      stats = eval_step(params, batch, hyper)
      add = lambda a, b: jax.tree.map(np.add, a, b)
      total = stats if total is None else add(total, stats)
    return {f'eval_{k}': v for k, v in values(total).items()}

  return run
