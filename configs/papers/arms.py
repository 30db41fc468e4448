"""Arms: what an experiment's models are told apart by, as overrides.

And what is said of them: the tests of a claim, and what a paper reports.
"""

from configs import common, ddpo, ppo

RLHFV = 'RLHF-V, arXiv 2312.00849'
METRICS = ('hallucination', 'mention', 'coverage', 'length', 'vqa')
EPOCHS, BATCH = 7, 32  # of the paper: how long n pairs are looked at
# The base model, as it was before it learned from feedback.
BASE = {'train': {'steps': 0}}
# Each tuned on the development pictures, with five points: ddpo.tune().
DDPO: dict = {}
DPO = ddpo.get_config().arms.dpo.to_dict()
SFT = ddpo.get_config().arms.sft.to_dict()
# A reward model that is told facts, and PPO on it: configs/ppo.py.
PPO = {
  'objective': 'ppo',
  'train': {
    k: ppo.get_config().train[k] for k in ('batch', 'steps', 'lr', 'warmup')
  },
  'rankings': {k: ppo.get_config().rankings[k] for k in ('pairs', 'dev_pairs')},
}
# The scene told in words, to a model that sees nothing.
TOLD = {'world': {'told': True}, 'model': {'vision': None}}
# LLaVA's eyes: patches of a CLIP tower through two layers.
PATCHES = {
  'model': {
    'vision': {'kind': 'clip', 'queries': 0},
    'connector': common.model('llava').connector,
  }
}


def corrections(n: int) -> dict:
  """Dense DPO on n corrections."""
  return {'feedback': {'pairs': n}, 'train': {'steps': steps(n, EPOCHS)}}


def corrected(n: int) -> dict:
  """Fine-tuning on n corrected answers."""
  train = SFT['train'] | {'steps': steps(n, 3)}
  return SFT | {'feedback': {'pairs': n}, 'train': train}


def rankings(n: int) -> dict:
  """DPO on n rankings of two answers."""
  train = DPO['train'] | {'steps': steps(n, EPOCHS)}
  return DPO | {
    'rankings': {'pairs': n},
    'data': {'pairs': 'rankings'},
    'train': train,
  }


def steps(n: int, epochs: int) -> int:
  return epochs * -(-n // BATCH)


def less(
  metric: str, arm: str | tuple, than: str | tuple, says: str
) -> dict:  # fmt: skip
  """A test: this arm has less of it than that one; several are averaged."""
  return {'metric': metric, 'less': arm, 'than': than, 'says': says}


def published(
  where: str, columns: str, rows: dict, *, note: str = '', paper: str = RLHFV
) -> dict:
  return {
    'source': f'{paper}, {where}', 'columns': columns, 'rows': rows,
    'note': note,
  }  # fmt: skip
