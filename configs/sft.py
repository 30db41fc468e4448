"""Supervised fine-tuning: captions and answered questions, no preference.

python -m rlhfv_jax.main --config=configs/sft.py             the playroom
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': lambda c: None,
    'llava': common.llava,
    'blind': common.blind,
    'small': common.small,
  }
  c = common.playroom()
  c.name = 'sft'
  c.stages = ('eyes', 'base', 'evaluate', 'report')
  c.objective = 'sft'
  c.loss = ConfigDict()
  c.arms = ConfigDict()
  for preset in common.presets(arg, table):
    preset(c)
  return c


def sweep() -> list[dict]:
  """The learning rate of the base model."""
  return [{'base': {'train': {'lr': lr}}} for lr in (1e-3, 2e-3, 4e-3)]
