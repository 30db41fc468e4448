"""RLHF-V's tables and figure in miniature (arXiv 2312.00849)."""

from configs import ddpo
from configs.papers.arms import (
  BASE,
  DDPO,
  DPO,
  METRICS,
  PPO,
  SFT,
  corrected,
  corrections,
  less,
  published,
  rankings,
)

QUESTIONS = 'playroom:train/questions/1400'
# Of pictures that nothing else was trained on.
TEACHER = 'playroom:train/teacher/1400?start=3000000'
PAIRS = (200, 800, 1400, 2200)


def table1() -> dict:
  return {
    'claim': 'Dense DPO on corrections cuts hallucination, more than PPO on '
    'rankings and a reward model that is told facts, and keeps what the '
    'answers say and what the model knows.',
    'arms': {
      'base': BASE,
      'ranking + PPO with facts': PPO,
      'ddpo': DDPO,
      'sft': SFT,
    },
    'metrics': (
      *METRICS, 'hallucination/object', 'hallucination/position',
      'hallucination/number', 'hallucination/attribute',
    ),
    'tests': (
      less('hallucination', 'ddpo', 'base', 'DDPO hallucinates less'),
      less('mention', 'ddpo', 'base', 'DDPO makes fewer unsupported claims'),
      less('hallucination', 'ranking + PPO with facts', 'base',
           'PPO with facts hallucinates less'),
      less('hallucination', 'ddpo', 'ranking + PPO with facts',
           'DDPO on 1400 corrections does more than PPO on '
           f'{PPO["rankings"]["pairs"]} rankings'),
      less('hallucination', 'ddpo', 'sft',
           'DDPO does more than fine-tuning on the corrected answers'),
      less('coverage', 'ddpo', 'base', 'DDPO costs coverage'),
      less('vqa', 'ddpo', 'base', 'DDPO costs answers to closed questions'),
    ),
    'published': published(
      'table 1',
      'Object HalBench response, mention; MHumanEval object, position, number, '
      'all; MMHal response; VQAv2',
      {'Muffin': (50.5, 24.5, 33.6, 16.4, 26.0, 74.7, 68.8, None),
       'LLaVA-RLHF': (38.1, 18.9, 37.7, 17.8, 18.5, 72.6, 65.6, None),
       'RLHF-V': (12.2, 7.5, 21.9, 7.5, 14.4, 55.5, 52.1, 80.0),
       'GPT-4V': (13.6, 7.3, 22.6, 12.3, 11.0, 45.9, 31.3, 77.2)},
      note='LLaVA-RLHF is another base model there; here all arms share one',
    ),
  }  # fmt: skip


def table2() -> dict:
  room, everywhere = 'overgeneralization/room', 'overgeneralization/all'
  return {
    'claim': 'What is usual in a room is claimed there more often than '
    'elsewhere, though it is in neither; dense DPO narrows that gap.',
    'arms': {'base': BASE, 'ddpo': DDPO, 'dpo': DPO, 'sft': SFT},
    'metrics': (everywhere, room, 'overgeneralization', 'hallucination'),
    'tests': (
      less('overgeneralization', 'ddpo', 'base', 'DDPO narrows the gap'),
      less(room, 'ddpo', 'base', 'DDPO claims less of what is usual'),
      less('overgeneralization', 'ddpo', 'sft',
           'DDPO narrows it more than fine-tuning on the corrected answers'),
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
      'base': BASE,
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


def table4() -> dict:
  return {
    'claim': 'Learning to answer as a stronger, wordier model does mends less '
    'than corrections of what the model itself says.',
    'lacks': 'The stronger model is right about all that it says here: it '
    'names what is there, and empty places until it has said five sentences. '
    'So it cannot teach claims that are beyond the student, which is how the '
    'paper explains its table.',
    'arms': {
      'base': BASE,
      'ddpo': DDPO,
      'sft': SFT,
      'distilled': SFT | {'data': {'source': TEACHER}},
    },
    'tests': (
      less('hallucination', 'ddpo', 'distilled',
           'corrections do more than a stronger model'),
      less('hallucination', 'sft', 'distilled',
           'so do they where they are only imitated'),
      less('hallucination', 'base', 'distilled',
           'a stronger, wordier model makes it worse'),
      less('length', 'base', 'distilled', 'answers come out longer'),
    ),
    'published': published(
      'table 4', 'MHumanEval object, position, number, all; MMHal response',
      {'Muffin': (33.6, 16.4, 26.0, 74.7, 68.8),
       'RLHF-V': (21.9, 7.5, 14.4, 55.5, 52.1),
       '1.2k answers of GPT-4V': (45.2, 10.3, 20.6, 75.3, 62.5)},
    ),
  }  # fmt: skip


def figure2() -> dict:
  arms = {'base': BASE}
  for n in PAIRS:
    arms[f'corrections/{n}'] = corrections(n)
    arms[f'rankings/{n}'] = rankings(n)
    arms[f'fine-tuning/{n}'] = corrected(n)
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
             f'{n} corrections do more than {n} rankings') for n in PAIRS),
      less('hallucination', 'corrections/200', 'rankings/2200',
           '200 corrections do more than 2200 rankings'),
      *(less('hallucination', f'corrections/{n}', f'fine-tuning/{n}',
             f'they do more than fine-tuning on the same {n}') for n in PAIRS),
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
    'arms': {'base': BASE, 'sft': SFT} | {_name(one): one for one in grid},
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


def _name(point: dict) -> str:
  return f'beta {point["loss"]["beta"]:g}/{point["loss"]["gamma"]:g}'


TABLES = {
  'table1': table1,
  'table2': table2,
  'table3': table3,
  'table4': table4,
  'figure2': figure2,
  'gamma_beta': gamma_beta,
}
