"""Supervised fine-tuning: captions and answered questions, no preference.

python -m rlhfv_jax.main --config=configs/sft.py             the playroom
python -m rlhfv_jax.main --config=configs/sft.py:playroom,lora
python -m rlhfv_jax.main --config=configs/sft.py:llava15_7b  a real model

A real model wants weights and data: --config.init=FOLDER, which `convert
import` made, and --config.data.source=KIND:PATH.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': lambda c: None,
    'llava': common.llava,
    'lora': lora,
    'blind': common.blind,
    'small': common.small,
  } | {name: real(name) for name in common.REAL}
  c = common.playroom()
  c.name = 'sft'
  c.stages = ('eyes', 'base', 'evaluate', 'report')
  c.objective = 'sft'
  c.loss = ConfigDict()
  c.train = common.train(batch=32, steps=132, lr=1e-4, warmup=0.1)
  c.train.rules = (common.EYES_STAY, *common.ALL_TRAINED)
  c.arms = ConfigDict()
  for preset in common.presets(arg, table):
    preset(c)
  return c


def lora(c: ConfigDict) -> None:
  """Adapters; on the playroom's model, which learn its corrected answers."""
  if 'train' not in c.stages:
    c.stages = ('eyes', 'base', 'feedback', 'train', 'evaluate', 'report')
  common.lora(c)


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model, tuned as LLaVA-RLHF tunes: 3 epochs of its 226k rows."""

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    c.stages = ('train',)
    c.train = common.train(batch=128, steps=5300, lr=2e-5, warmup=0.03)
    if c.model.vision is not None and c.model.vision.kind == 'clip':
      # CLIP stays as it came; Muffin trains its tower too.
      c.train.rules = (common.EYES_STAY, *common.ALL_TRAINED)
      c.train.frozen_dtype = 'bfloat16'

  return chosen


def sweep() -> list[dict]:
  """The learning rate of the base model."""
  return [{'base': {'train': {'lr': lr}}} for lr in (1e-3, 2e-3, 4e-3)]
