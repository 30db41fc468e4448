"""What a preference run's curves say is wrong, in words, with the way out.

docs/curves.md shows each of these as a picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Rows = Sequence[Mapping[str, float]]  # metrics.jsonl: step, and eval_... beside

LN2 = math.log(2)
OFF = 2e-3  # from ln 2: more than bfloat16 makes of it
STILL = 1e-4  # a margin that never was one
LEARNT, EARLY = 0.01, 1 / 3  # a loss with no gradient left, and too soon
ALONE = 0.99  # of the margin comes from corrected tokens
SUNK = 0.05  # of its log-probability, that a chosen answer loses
WORSE = 1.2  # times its best is what a held-out loss ends at


def diagnose(rows: Rows) -> list[str]:
  """A sentence for each thing that is wrong; none of a healthy run."""
  if not any('loss/dpo' in row or 'eval_loss/dpo' in row for row in rows):
    return []  # no preference
  checks = (mismatched, equal, saturated, narrow, sinking, overfitted)
  return [sentence for check in checks for sentence in check(rows)]


def track(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Steps and numbers: held out where that is there, else of training."""
  for key in (f'eval_{name}', name):
    points = [(row['step'], row[key]) for row in rows if key in row]
    if len(points) > 1:
      steps, values = np.array(sorted(points), float).T
      return steps, values
  return np.zeros(0), np.zeros(0)


def mismatched(rows: Rows) -> Iterator[str]:
  first = [
    row[key]
    for row in rows
    for key, step in (('eval_loss/dpo', 0), ('loss/dpo', 1))
    if key in row and row['step'] == step
  ]
  if first and abs(first[0] - LN2) > OFF:
    yield (
      f'The reference is another model: the first loss/dpo is {first[0]:.4f}, '
      f'and policy and reference start equal at ln 2 = {LN2:.4f}. Delete '
      'reference/ and score it again, with the weights, template and pictures '
      'that training begins with.'
    )


def equal(rows: Rows) -> Iterator[str]:
  _, margins = track(rows, 'rewards/margins')
  if len(margins) and np.abs(margins).max() < STILL:
    yield (
      'Nothing tells the answers apart: rewards/margins stays at 0. Chosen and '
      'rejected say the same (`python -m rlhfv_jax data check` counts them), '
      'or nothing is trained: look at config.train.rules and config.train.lr.'
    )


def saturated(rows: Rows) -> Iterator[str]:
  steps, loss = track(rows, 'loss/dpo')
  if len(steps) and loss.min() < LEARNT:
    at = int(steps[np.argmax(loss < LEARNT)])
    if at < EARLY * steps[-1]:
      yield (
        f'beta is too high: loss/dpo was below {LEARNT} at step {at} of '
        f'{int(steps[-1])}, so a hardly moved policy has no gradient left. '
        'Lower config.loss.beta, or train for fewer steps.'
      )


def narrow(rows: Rows) -> Iterator[str]:
  _, margins = track(rows, 'rewards/margins')
  _, corrected = track(rows, 'rewards/margins_corrected')
  if len(margins) and len(corrected) == len(margins):
    whole, part = margins[-1], corrected[-1]
    if whole > STILL and part > ALONE * whole:
      yield (
        f'gamma is too high: {100 * part / whole:.1f} % of the margin comes '
        'from corrected tokens, so nothing holds the rest of the answers. '
        'Lower config.loss.gamma.'
      )


def sinking(rows: Rows) -> Iterator[str]:
  _, chosen = track(rows, 'logps/chosen')
  if len(chosen) and chosen[0] - chosen[-1] > SUNK * abs(chosen[0]):
    yield (
      f'The chosen answers sink: logps/chosen went from {chosen[0]:.3g} to '
      f'{chosen[-1]:.3g}, so the margin is made by unlearning both. Raise '
      'config.loss.sft_weight, or lower config.train.lr.'
    )


def overfitted(rows: Rows) -> Iterator[str]:
  points = [
    (row['step'], row['eval_loss/dpo'])
    for row in rows if 'eval_loss/dpo' in row
  ]  # fmt: skip
  if len(points) < 3:
    return
  steps, loss = np.array(sorted(points), float).T
  best = int(np.argmin(loss))
  if loss[-1] > max(WORSE * loss[best], loss[best] + OFF):
    yield (
      f'It learns by heart: the held-out loss/dpo was best at step '
      f'{int(steps[best])} ({loss[best]:.3f}) and ends at {loss[-1]:.3f}. '
      'Train for fewer steps, or on more pairs.'
    )


def said(name: str, rows: Rows) -> str:
  """What a run prints at its end: a line a sentence, nothing if healthy."""
  return ''.join(f'{name}: {sentence}\n' for sentence in diagnose(rows))
