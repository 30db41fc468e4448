"""The papers' experiments in miniature, as data.

python -m launch.sweep --config=configs/paper.py:core      RLHF-V's tables
python -m launch.sweep --config=configs/paper.py:open      what it leaves open
python -m launch.sweep --config=configs/paper.py:factrlhf  LLaVA-RLHF's reward
python -m launch.sweep --config=configs/paper.py:table3    one alone
python -m launch.sweep --config=configs/paper.py:table3,small    no quality
python -m launch.sweep --config=configs/paper.py:table3 --print

An experiment has its claim in words, its arms (what each overrides), the tests
of the claim, and what the paper reports at real size. A verdict is over seeds,
and may be that something is not reproduced here.
"""

from ml_collections import ConfigDict

from configs import common, ddpo, ppo
from configs.papers.questions import QUESTIONS
from configs.papers.rewards import REWARDS
from configs.papers.tables import TABLES

SEEDS = (0, 1, 2)
GROUPS = {
  'core': tuple(TABLES),
  'open': tuple(QUESTIONS),
}
MOST = {'steps': 6, 'batch': 16}  # of a small training
FEW = {'dev_pairs': 16}  # of small feedback
PRESETS = ('playroom', 'small', 'blind', *common.REAL)


def experiments() -> dict[str, dict]:
  """All experiments, by name."""
  every = TABLES | QUESTIONS | REWARDS
  return {name: make() for name, make in every.items()}


def chosen(arg: str | None) -> dict[str, dict]:
  """The experiments that a config's string names; small ones if it says so."""
  names = (arg or 'core').split(',')
  every = experiments()
  wanted = [one for n in names for one in GROUPS.get(n, (n,)) if one in every]
  found = {one: every[one] for one in wanted or GROUPS['core']}
  if 'small' in names:
    for one in found.values():
      one['arms'] = {k: shrunk(v) for k, v in one['arms'].items()}
  return found


def shrunk(arm: dict) -> dict:
  """As `common.small`: every stage, no quality."""
  arm = dict(arm)
  for part, most in (('train', MOST), ('feedback', FEW), ('rankings', FEW)):
    if part in arm:
      fewer = {k: min(v, most.get(k, v)) for k, v in arm[part].items()}
      if part != 'train' and 'pairs' in fewer:
        fewer['pairs'] = 16 + arm[part]['pairs'] // 50  # still told apart
      arm[part] = fewer
  if source := arm.get('data', {}).get('source'):
    arm['data'] = {'source': source.replace('1400', '48')}
  return arm


def get_config(arg: str | None = None) -> ConfigDict:
  """What all arms share: configs/ddpo.py, without its own arms."""
  own = {*GROUPS, *experiments()}
  names = [n for n in (arg or 'core').split(',') if n]
  rest = [n for n in names if n not in own]
  unknown = [n for n in rest if n not in PRESETS]
  if unknown:
    raise ValueError(
      f'no experiment {unknown[0]!r}: there are {", ".join(sorted(own))}, and '
      'small'
    )
  c = ddpo.get_config(','.join(rest) or None)
  ranked = c.rankings.to_dict()
  common.rewarded(c)
  c.rankings.update(ranked)  # PPO has more of them, and says so
  c.reward.arms = ConfigDict()
  c.ppo = ppo.learning()
  if 'small' in rest:
    common.small(c)
    ppo.few(c)
  c.arms = ConfigDict()
  c.name = 'paper'
  c.stages = ('eyes', 'base', 'feedback', 'reference', 'train', 'evaluate',
              'report')  # fmt: skip
  return c
