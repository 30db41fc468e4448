"""The papers' experiments in miniature, as data.

python -m launch.sweep --config=configs/paper.py:core          all of them
python -m launch.sweep --config=configs/paper.py:table3        one alone
python -m launch.sweep --config=configs/paper.py:table3,small  without quality
python -m launch.sweep --config=configs/paper.py:table3 --print

An experiment has its claim in words, its arms (what each overrides), the tests
of the claim, and what the paper reports at real size. A verdict is over seeds,
and may be that something is not reproduced here.
"""

from ml_collections import ConfigDict

from configs import common, ddpo

SEEDS = (0, 1, 2)
PAPER = 'RLHF-V, arXiv 2312.00849'
METRICS = ('hallucination', 'mention', 'coverage', 'length', 'vqa')
# Arms. None is the base model, as it was before it learned from feedback.
DDPO = {}
DPO = ddpo.get_config().arms.dpo.to_dict()
SFT = ddpo.get_config().arms.sft.to_dict()
QUESTIONS = 'playroom:train/questions/1400'
EPOCHS, BATCH = 7, 32  # of the paper: how long n pairs are looked at


def experiments() -> dict[str, dict]:
  """All experiments, by name."""
  return {
    'table1': table1(),
    'table2': table2(),
    'table3': table3(),
    'figure2': figure2(),
    'gamma_beta': gamma_beta(),
    'gamma': gamma(),
    'recipes': recipes(),
    'diff': diff(),
    'scaling': scaling(),
  }


GROUPS = {
  'core': ('table1', 'table2', 'table3', 'figure2', 'gamma_beta'),
  'open': ('gamma', 'recipes', 'diff', 'scaling'),
}


def table1() -> dict:
  return {
    'claim': 'Dense DPO on corrections cuts hallucination and keeps what the '
    'answers say and what the model knows.',
    'lacks': 'The arm of rankings, a reward model with facts and PPO: '
    'configs/ppo.py runs it alone.',
    'arms': {'base': None, 'ddpo': DDPO, 'sft': SFT},
    'metrics': (
      *METRICS, 'hallucination/object', 'hallucination/position',
      'hallucination/number', 'hallucination/attribute',
    ),
    'tests': (
      less('hallucination', 'ddpo', 'base', 'DDPO hallucinates less'),
      less('mention', 'ddpo', 'base', 'DDPO makes fewer unsupported claims'),
      less('coverage', 'ddpo', 'base', 'DDPO costs coverage'),
      less('vqa', 'ddpo', 'base', 'DDPO costs answers to closed questions'),
    ),
    'published': published(
      'table 1', 'MHumanEval object, position, number, all; VQAv2',
      {'Muffin': (33.6, 16.4, 26.0, 74.7, None),
       'LLaVA-RLHF': (37.7, 17.8, 18.5, 72.6, None),
       'RLHF-V': (21.9, 7.5, 14.4, 55.5, 80.0)},
    ),
  }  # fmt: skip


def table2() -> dict:
  room, everywhere = 'overgeneralization/room', 'overgeneralization/all'
  return {
    'claim': 'What is usual in a room is claimed there more often than '
    'elsewhere, though it is in neither; dense DPO narrows that gap.',
    'arms': {'base': None, 'ddpo': DDPO, 'dpo': DPO},
    'metrics': (everywhere, room, 'overgeneralization', 'hallucination'),
    'tests': (
      less('overgeneralization', 'ddpo', 'base', 'DDPO narrows the gap'),
      less(room, 'ddpo', 'base', 'DDPO claims less of what is usual'),
    ),
    'published': published(
      'table 2', 'mean over four scenes: Ha, Hs, their difference',
      {'LLaVA-1.5': (21.8, 31.0, 9.2), 'LLaVA-RLHF': (18.3, 23.5, 5.2),
       'RLHF-V': (3.9, 5.6, 1.7), 'GPT-4V': (5.7, 10.8, 5.0)},
      note='Ha and Hs are means that we took over its four scenes',
    ),
  }  # fmt: skip


def table3() -> dict:
  return {
    'claim': 'Weight on the corrected segments makes DPO better; fine-tuning '
    'without feedback does less; crops and flips that can make an answer wrong '
    'undo some of it.',
    'arms': {
      'base': None,
      'ddpo': DDPO,
      'dpo': DPO,
      'sft on corrections': SFT,
      'questions only': SFT | {'data': {'source': QUESTIONS}},
      'untrusted views': {'data': {'augment': 'untrusted'}},
    },
    'tests': (
      less('hallucination', 'ddpo', 'dpo', 'DDPO hallucinates less than DPO'),
      less('hallucination', 'ddpo', 'sft on corrections',
           'DDPO hallucinates less than fine-tuning on the corrected answers'),
      less('hallucination', 'ddpo', 'questions only',
           'DDPO hallucinates less than fine-tuning on questions alone'),
      less('hallucination', 'ddpo', 'untrusted views',
           'views that can make an answer wrong cost some of it'),
    ),
    'published': published(
      'table 3',
      'MHumanEval object, position, number, all; MMHal response; VQAv2',
      {'Muffin': (33.6, 16.4, 26.0, 74.7, 68.8, None),
       'RLHF-V': (21.9, 7.5, 14.4, 55.5, 52.1, 80.0),
       'vanilla DPO': (21.9, 11.6, 11.6, 57.5, 54.2, 80.0),
       'VQA tuning only': (34.3, 17.1, 17.1, 65.1, 58.3, 80.0),
       'untrusted augmentation': (18.5, 13.7, 14.4, 59.6, 54.2, 77.1)},
      note='DDPO and DPO are 2 points apart on 146 answers there',
    ),
  }  # fmt: skip


def figure2() -> dict:
  arms = {'base': None}
  for n in (200, 800, 1400, 2200):
    arms[f'corrections/{n}'] = corrections(n)
    arms[f'rankings/{n}'] = rankings(n)
  return {
    'claim': 'Hallucination falls with the number of pairs, and a correction '
    'teaches more than a ranking.',
    'arms': arms,
    'along': 'pairs',
    'tests': (
      less('hallucination', 'corrections/2200', 'corrections/200',
           '2200 corrections do more than 200'),
      less('hallucination', 'corrections/200', 'base',
           '200 corrections do something'),
      *(less('hallucination', f'corrections/{n}', f'rankings/{n}',
             f'{n} corrections do more than {n} rankings')
        for n in (200, 800, 1400, 2200)),
      less('hallucination', 'corrections/200', 'rankings/2200',
           '200 corrections do more than 2200 rankings'),
    ),
    'published': published(
      'figure 2', 'read from the text', {},
      note='200 corrections do about as much as 2.2k rankings of LLaVA-RLHF',
    ),
  }  # fmt: skip


def gamma_beta() -> dict:
  grid = ddpo.sweep()
  return {
    'claim': 'More weight on corrected tokens mends more, at any beta.',
    'arms': {'base': None} | {name(point): point for point in grid},
    'along': 'gamma',
    'tests': tuple(
      less('hallucination', f'beta {beta:g}/5', f'beta {beta:g}/1',
           f'gamma 5 does more than gamma 1 at beta {beta:g}')
      for beta in sorted({point['loss']['beta'] for point in grid})
    ),
    'published': published(
      'section 4', 'the settings', {}, note='gamma 5, beta 0.5; no grid shown'
    ),
  }  # fmt: skip


def gamma() -> dict:
  """Open: how much gamma matters, with means and with sums."""
  arms: dict = {'base': None}
  for way, normalize, beta in (('means', True, 20.0), ('sums', False, 1.0)):
    for value in (1.0, 1.1, 2.0, 3.0, 5.0, 7.0, 10.0):
      loss = {'gamma': value, 'normalize': normalize, 'beta': beta}
      arms[f'{way}/{value:g}'] = {'loss': loss}
  return {
    'claim': 'The paper has gamma 5 with means, its code 1.1 with sums: it '
    'matters which.',
    'arms': arms,
    'along': 'gamma',
    'tests': tuple(
      less('hallucination', f'{way}/5', f'{way}/1.1',
           f'gamma 5 does more than 1.1, with {way}')
      for way in ('means', 'sums')
    ),
    'published': published('section 4 and its code', 'the settings', {}),
  }  # fmt: skip


def recipes() -> dict:
  """Open: the paper's numbers against its code's, at our learning rate."""
  paper = {'beta': 0.5, 'gamma': 5.0, 'normalize': True, 'sft_weight': 0.0}
  code = {'beta': 0.1, 'gamma': 1.1, 'normalize': False, 'sft_weight': 0.0}
  return {
    'claim': 'The recipe of the paper and that of its code do the same.',
    'arms': {
      'base': None,
      'paper': {'loss': paper},
      'code': {'loss': code, 'data': {'diff': 'muffin'}},
      'ours': DDPO,
    },
    'tests': (
      less('hallucination', 'paper', 'code', "the paper's does more"),
      less('hallucination', 'ours', 'paper', 'ours does more than the paper'),
    ),
    'published': published('section 4 and its code', 'the settings', {}),
  }


def diff() -> dict:
  """Open: whether it matters who says which tokens were corrected."""
  return {
    'claim': "Spans of the annotator do more than the code's token diff, which "
    'misses insertions and deletions.',
    'arms': {
      'base': None,
      'spans': DDPO,
      'token diff': {'data': {'diff': 'muffin'}},
    },
    'tests': (less('hallucination', 'spans', 'token diff', 'spans do more'),),
    'published': published('its code', 'no comparison', {}),
  }


def scaling() -> dict:
  """Open: whether more corrections go on helping."""
  return {
    'claim': 'Hallucination goes on falling to 10k corrections.',
    'arms': {'base': None}
    | {f'corrections/{n}': corrections(n) for n in (1400, 5000, 10000)},
    'along': 'pairs',
    'tests': (
      less('hallucination', 'corrections/10000', 'corrections/1400',
           '10k corrections do more than 1.4k'),
    ),
    'published': published('figure 2', 'ends at 2.2k', {}),
  }  # fmt: skip


def corrections(n: int) -> dict:
  return {'feedback': {'pairs': n}, 'train': {'steps': steps(n)}}


def rankings(n: int) -> dict:
  train = DPO['train'] | {'steps': steps(n)}
  return DPO | {
    'rankings': {'pairs': n},
    'data': {'pairs': 'rankings'},
    'train': train,
  }


def steps(n: int) -> int:
  return -(-EPOCHS * n // BATCH)


def name(point: dict) -> str:
  return f'beta {point["loss"]["beta"]:g}/{point["loss"]["gamma"]:g}'


def less(metric: str, arm: str, than: str, says: str) -> dict:
  """A test: this arm has less of it than that one."""
  return {'metric': metric, 'less': arm, 'than': than, 'says': says}


def published(where: str, columns: str, rows: dict, *, note: str = '') -> dict:
  return {
    'source': f'{PAPER}, {where}', 'columns': columns, 'rows': rows,
    'note': note,
  }  # fmt: skip


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


def shrunk(arm: dict | None) -> dict | None:
  """As `common.small`: every stage, no quality."""
  if arm is None:
    return None
  arm = arm | ({'train': arm['train'] | {'steps': 6}} if 'train' in arm else {})
  for kind in ('feedback', 'rankings'):
    if kind in arm:
      arm[kind] = {'pairs': 16 + arm[kind]['pairs'] // 50}
  if 'source' in arm.get('data', {}):
    arm['data'] = {'source': 'playroom:train/questions/48'}
  return arm


def get_config(arg: str | None = None) -> ConfigDict:
  """What all arms share: configs/ddpo.py, without its own arms."""
  own = {*GROUPS, *experiments()}
  names = [n for n in (arg or 'core').split(',') if n]
  rest = [n for n in names if n not in own]
  unknown = [n for n in rest if n not in ('playroom', 'small', *common.REAL)]
  if unknown:
    raise ValueError(
      f'no experiment {unknown[0]!r}: there are {", ".join(sorted(own))}, and '
      'small'
    )
  c = ddpo.get_config(','.join(rest) or None)
  c.arms = ConfigDict()
  c.name = 'paper'
  c.stages = ('eyes', 'base', 'feedback', 'reference', 'train', 'evaluate',
              'report')  # fmt: skip
  return c
