"""A reward model that is told facts (LLaVA-RLHF, arXiv 2309.14525 sec. 2.2).

python -m rlhfv_jax.main --config=configs/reward.py          the playroom
python -m rlhfv_jax.main --config=configs/reward.py:playroom,lora
python -m rlhfv_jax.main --config=configs/reward.py:llava_rlhf_13b

A real model wants weights and ranked pairs: --config.init=FOLDER, which
`convert import` made, and --config.rankings.source=llava_rlhf:DIR. Beside the
model stands another that is told nothing: config.reward.arms.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': lambda c: None,
    'llava': common.llava,
    'lora': common.lora,
    'blind': common.blind,
    'small': common.small,
  } | {name: real(name) for name in common.REAL}
  c = common.playroom()
  c.name = 'reward'
  c.stages = ('eyes', 'base', 'rankings', 'practice', 'reward', 'judge',
              'report')  # fmt: skip
  c.objective = 'reward'
  c.loss = ConfigDict()
  common.rewarded(c)
  for preset in common.presets(arg, table):
    preset(c)
  return c


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model by LLaVA-RLHF's recipe: adapters, one epoch of 10k.

  Pairs whose picture has no facts are left out and counted.
  """

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    c.stages = ('reward', 'judge', 'report')
    c.data.skip = True
    c.lora.update({'rank': 64, 'alpha': 16.0})
    c.reward.batch = 16
    c.reward.train = common.train(batch=32, steps=290, lr=2e-5, warmup=0.03)
    c.reward.train.update({'schedule': 'constant', 'clip': 0.3, 'micro': 8})
    c.reward.train.update({'save_every': 50, 'eval_every': 50})
    c.reward.prompt.update({
      'question': 'Judge your last answer: is everything that it says in the '
      'picture, does it answer what was asked, and is it clear and brief?'
      '\n{facts}',
      'known': 'This is known of the picture:\n',
      'each': '- {fact}\n',
      'reply': ' The score of my last answer is',
    })  # fmt: skip

  return chosen


def sweep() -> list[dict]:
  """The learning rate, and how many steps."""
  return [
    {'reward': {'train': {'lr': lr, 'steps': steps}}}
    for lr in (3e-5, 1e-4, 3e-4)
    for steps in (440, 1320)
  ]
