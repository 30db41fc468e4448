"""Supervised fine-tuning: captions and answered questions, no preference.

python -m rlhfv_jax.main --config=configs/sft.py             the playroom
python -m rlhfv_jax.main --config=configs/sft.py:playroom,lora
python -m rlhfv_jax.main --config=configs/sft.py:llava15_7b  a real model

A real model wants weights and data: --config.init=FOLDER, which `convert
import` made, and --config.data.source=KIND:PATH. LLaVA-RLHF's begins with its
connector, and looks for what it is trained on in the folder data/:

python -m rlhfv_jax.main --config=configs/sft.py:llava_rlhf_7b,connector \\
  --config.init=WEIGHTS --workdir=CONNECTED
python -m rlhfv_jax.main --config=configs/sft.py:llava_rlhf_7b \\
  --config.init=CONNECTED
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
    'connector': connector,
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


# The SFT+ mixture (arXiv 2309.14525 sec. 2.4): LLaVA's conversations, yes/no
# questions, multiple choice, and captions with boxes.
SFT_PLUS = (
  'llava:data/llava',
  'vqav2:data/vqav2?task=rounds',
  'aokvqa:data/aokvqa?task=rounds',
  'flickr30k_entities:data/flickr30k',
)


# The parent of RLHF-V, as the path in its released config names it: short
# answers and conversations, one as often as the other.
MUFFIN = '1*vqav2:data/vqav2?prompt=rlhfv + 1*unimm:data/unimm'


def connector(c: ConfigDict) -> None:
  """Before it: the connector alone, on 558k pictures and their captions."""
  c.chat.template = 'plain'
  c.data.update({'source': 'llava:data/blip_laion_cc_sbu_558k', 'buckets': 1})
  c.train = common.train(batch=128, steps=4360, lr=2e-3, warmup=0.03)
  c.train.rules = (('mm_projector.*', 'trained'), ('.*', 'frozen'))
  c.train.frozen_dtype = 'bfloat16'


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model, tuned as LLaVA-RLHF tunes: 3 epochs of its 226k rows.

  Of its own mixture, which has longer conversations than fit, what cannot be
  used is left out.
  """

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    c.stages = ('train',)
    c.train = common.train(batch=128, steps=5300, lr=2e-5, warmup=0.03)
    if c.model.vision is not None and c.model.vision.kind == 'clip':
      # CLIP stays as it came; Muffin trains its tower too.
      c.train.rules = (common.EYES_STAY, *common.ALL_TRAINED)
      c.train.frozen_dtype = 'bfloat16'
    if c.chat.template == 'muffin':
      c.train.update({'batch': 512, 'steps': 2800})
      c.data.update({'source': MUFFIN, 'buckets': 4, 'skip': True})
    if name.startswith('llava_rlhf'):
      c.data.update({'source': ' + '.join(SFT_PLUS), 'buckets': 4})
      c.data.skip = True
      c.train.clip = 0.0  # what the script asked for never came into effect

  return chosen


def sweep() -> list[dict]:
  """The learning rate of the base model."""
  return [{'base': {'train': {'lr': lr}}} for lr in (1e-3, 2e-3, 4e-3)]
