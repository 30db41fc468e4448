"""Telling of rollouts: the log, some answers to read, alarms.

FOLDER/metrics.jsonl has a row a rollout, answers/rollout-NNNN.jsonl what was
said in some of them, alarms.json all alarms. A run that goes on drops what it
will do again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rlhfv_jax import files, hosts
from rlhfv_jax.rollout import Rollout, alarms
from rlhfv_jax.train.hooks import Metrics

FIRST = 'objective/rewards'  # is in every row of a rollout


def teller(
  folder: Path, *, every: int, samples: int
) -> Callable[[int, Rollout], None]:
  """(step, rollout) -> written; `samples` answers of every so manieth."""
  opened: list[Metrics] = []

  def tell(step: int, made: Rollout) -> None:
    if not opened:
      opened.append(Metrics(folder, start=step - 1))
    (metrics,) = opened
    number = sum(FIRST in row for row in metrics.rows)
    metrics.write(step, _timed(made.numbers))
    if not hosts.leader():
      return
    if number % every == 0:
      path = folder / 'answers' / f'rollout-{number:04d}.jsonl'
      files.write_lines(path, made.answers[:samples])
    found = alarms.look(metrics.rows)
    files.write_json(folder / 'alarms.json', found)
    for alarm in found:
      if alarm['step'] == step:
        print(f'step {step}, {alarm["alarm"]}: {alarm["says"]}',
              file=sys.stderr)  # fmt: skip

  return tell


def _timed(numbers: dict[str, float]) -> dict[str, float]:
  """With the share of the time since the last rollout that went to writing."""
  parts = [v for k, v in numbers.items() if k.startswith('time/')]
  if 'time/update' not in numbers:
    return numbers
  return numbers | {
    'time/share_generating': numbers['time/generate'] / sum(parts)
  }
