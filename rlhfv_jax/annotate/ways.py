"""Ways on from a batch: what to do with its records, as lines to be run."""

from __future__ import annotations

import shlex


def ways(mode: str, workdir: str, pairs: int) -> list[tuple[str, str]]:
  """(question, command) in the order in which one would ask."""
  spec, python = f'annotations:{workdir}', ('python', '-m')
  check = (*python, 'rlhfv_jax', 'data', 'check', f'--data={spec}')
  train = (*python, 'rlhfv_jax.main')
  convert = (*python, 'rlhfv_jax', 'data', 'convert', f'--from={spec}')
  if mode == 'label':
    return [
      ('How often is something wrong?', _line(
        *python, 'rlhfv_jax.main', '--config=configs/evaluate.py:PRESET',
        '--config.init=MODEL', '--config.benchmarks=mhumaneval',
        '--config.mhumaneval.path=QUESTIONS.jsonl',
        f'--config.mhumaneval.labels={workdir}',
      )),
    ]  # fmt: skip
  if mode == 'rank':
    name, told, out = 'reward', f'--config.rankings.source={spec}', 'llava_rlhf'
  else:
    name, told, out = 'ddpo', f'--config.data={spec}', 'rlhfv'
  place = f'--workdir={workdir}/{name}-{pairs}'
  return [
    ('Is it safe to train on?', _line(*check)),
    ('Train on it', _line(*train, f'--config=configs/{name}.py', told, place)),
    ('Take it elsewhere', _line(*convert, f'--to={out}:OUT')),
  ]


def _line(*words: str) -> str:
  return shlex.join(words)
