"""TRL's DPOTrainer on the same weights and pairs, as it ships or at its best.

Float32 is ours to choose, and a constant learning rate; else nothing is set
where it ships. At its best gradients are not checkpointed. More is not to be
had: a cached reference is refused for pictures, padding-free batches are
switched off, and a fused head is on by itself (`trl/trainer/dpo_trainer.py`).
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from PIL import Image

from launch.speed import clock, pairs
from launch.speed.settings import BETA, CLIP, RATE
from launch.speed.sizes import Size
from launch.speed.torch_step import adapters, load, peak

SETTINGS = {'shipped': {}, 'best': {'gradient_checkpointing': False}}


class Clock(transformers.TrainerCallback):
  """Seconds of each step; what the collator takes before is not counted."""

  def __init__(self):
    self.took = []

  def on_step_begin(self, *args, **kwargs):
    self._begun = clock.now()

  def on_step_end(self, *args, **kwargs):
    if torch.cuda.is_available():
      torch.cuda.synchronize()
    self.took.append(clock.now() - self._begun)


def rows(size: Size) -> datasets.Dataset:
  """Pairs as TRL reads them."""
  drawn = pairs.draw(size)
  said = pairs.texts(drawn)
  pictures = [[Image.fromarray(x)] for x in drawn.images]
  return datasets.Dataset.from_list(
    [row | {'images': x} for row, x in zip(said, pictures, strict=True)]
  )


def measure(
  size: Size, folder: Path, *, steps: int, setting: str
) -> dict[str, Any]:
  config = trl.DPOConfig(
    output_dir=str(folder / 'trl'),
    per_device_train_batch_size=size.pairs // size.micro,
    gradient_accumulation_steps=size.micro,
    max_steps=1 + steps,
    max_length=None,
    beta=BETA,
    learning_rate=RATE,
    max_grad_norm=CLIP,
    lr_scheduler_type='constant',
    bf16=size.config.dtype == 'bfloat16',
    logging_steps=1,
    save_strategy='no',
    report_to='none',
    disable_tqdm=True,
    **SETTINGS[setting],
  )
  watch = Clock()
  more = {}
  if size.rank:
    more['peft_config'] = adapters(size)
  trainer = trl.DPOTrainer(
    load(folder), args=config, train_dataset=rows(size), callbacks=[watch],
    processing_class=transformers.AutoProcessor.from_pretrained(folder),
    **more,
  )  # fmt: skip
  with contextlib.redirect_stdout(sys.stderr):
    trainer.train()
  log = [row for row in trainer.state.log_history if 'loss' in row]
  each = lambda name: [float(row[name]) for row in log]
  return clock.summary(watch.took[1:]) | {
    'peak_mib': peak(),
    'loss': each('loss'),
    'grad_norm': each('grad_norm'),
    'logps': [each('logps/chosen')[0], each('logps/rejected')[0]],
    'version': f'trl {trl.__version__}, transformers '
    f'{transformers.__version__}',
  }  # fmt: skip
