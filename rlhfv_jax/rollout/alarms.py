"""Alarms: what is going wrong in a run that learns from a reward, in words.

Each looks at the numbers of all rollouts so far, the last one last, and says
what it sees or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Rows = Sequence[Mapping[str, float]]
WINDOW = 5  # rollouts that make a mean
KL = 30.0  # of an answer, in nats


def hacked(rows: Rows) -> str | None:
  """The reward rises, and what it stands for gets worse."""
  name = 'answers/hallucination'
  if len(rows) < 2 * WINDOW or name not in rows[-1]:
    return None
  reward, wrong = (_means(rows, k) for k in ('objective/rewards', name))
  if reward[1] <= reward[0] or wrong[1] <= wrong[0] + 0.05:
    return None
  return (
    f'the reward rose from {reward[0]:.2f} to {reward[1]:.2f} while '
    f'hallucinating answers rose from {wrong[0]:.0%} to {wrong[1]:.0%}: the '
    'policy has found what the reward model overlooks. Raise config.ppo.kl, '
    'stop earlier, or train a better reward model'
  )


def runaway(rows: Rows) -> str | None:
  """The policy is far from where it began."""
  kl = rows[-1]['objective/kl']
  if abs(kl) <= KL:
    return None
  return (
    f'KL to the reference is {kl:.1f} nats an answer, over {KL:g}: raise '
    'config.ppo.kl or lower config.ppo.train.lr'
  )


def alike(rows: Rows) -> str | None:
  """A quarter of the different answers that there were at first."""
  first, last = (rows[i]['answers/distinct'] for i in (0, -1))
  if last >= 0.25 * first:
    return None
  return (
    f'answers are getting alike: {last:.0%} of them differ, at first '
    f'{first:.0%} did. Raise config.ppo.kl or lower config.ppo.train.lr'
  )


def empty(rows: Rows) -> str | None:
  share = rows[-1]['answers/empty']
  if share <= 0.5:
    return None
  return (
    f'{share:.0%} of the answers are empty: saying nothing is rewarded. Weaken '
    'config.ppo.reward.length or raise config.ppo.kl'
  )


def endless(rows: Rows) -> str | None:
  share = 1 - rows[-1]['answers/ended']
  if share <= 0.5:
    return None
  return (
    f'{share:.0%} of the answers do not end: strengthen '
    'config.ppo.reward.no_end, or raise config.ppo.max_new'
  )


ALARMS: dict[str, Callable[[Rows], str | None]] = {
  'reward hacking': hacked,
  'KL runs away': runaway,
  'answers alike': alike,
  'empty answers': empty,
  'endless answers': endless,
}


def look(rows: Rows) -> list[dict]:
  """All alarms of a run: {step, alarm, says}, once until it is over."""
  found, on = [], set()
  for n in range(1, len(rows) + 1):
    says = {name: alarm(rows[:n]) for name, alarm in ALARMS.items()}
    for name in says:
      if says[name] and name not in on:
        step = int(rows[n - 1].get('step', n))
        found.append({'step': step, 'alarm': name, 'says': says[name]})
    on = {name for name in says if says[name]}
  return found


def _means(rows: Rows, name: str) -> tuple[float, float]:
  """Over the first rollouts, and over the last."""
  values = [row[name] for row in rows]
  return float(np.mean(values[:WINDOW])), float(np.mean(values[-WINDOW:]))
