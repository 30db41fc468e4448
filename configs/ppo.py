"""Fact-RLHF: PPO on a reward model that is told facts (arXiv 2309.14525).

python -m rlhfv_jax.main --config=configs/ppo.py             the playroom
python -m rlhfv_jax.main --config=configs/ppo.py:playroom,truth
python -m rlhfv_jax.main --config=configs/ppo.py:playroom,lora
python -m launch.sweep   --config=configs/ppo.py:playroom,ablation

A real model wants weights, prompts and a reward model: --config.init=FOLDER,
--config.ppo.prompts=KIND:PATH and --config.reward.init=FOLDER.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': lambda c: None,
    'paper': recipe_paper,
    'truth': truth,
    'ablation': ablation,
    'llava': common.llava,
    'lora': common.lora,
    'small': small,
  } | {name: real(name) for name in common.REAL}
  c = common.playroom()
  c.name = 'ppo'
  c.stages = ('eyes', 'base', 'feedback', 'rankings', 'practice', 'reward',
              'train', 'arms', 'evaluate', 'report')  # fmt: skip
  c.objective = 'ppo'
  common.rewarded(c)
  c.reward.arms = ConfigDict()  # configs/reward.py has them
  c.ppo = learning()
  c.train = common.train(batch=32, steps=320, lr=1.5e-4, warmup=0.05)
  c.train.rules = (common.EYES_STAY, *common.ALL_TRAINED)
  # Of the arms: what a preference weighs, as in configs/ddpo.py.
  c.loss = ConfigDict({
    'beta': 20.0, 'gamma': 2.0, 'normalize': True, 'label_smoothing': 0.0,
    'sft_weight': 10.0, 'dpo_weight': 1.0,
  })  # fmt: skip

  # What else as many pictures can teach: corrections of the segments, and the
  # same rankings without a reward model.
  c.arms = ConfigDict()
  short = {'batch': 32, 'steps': 308, 'lr': 4e-5, 'warmup': 0.1}
  c.arms.ddpo = {'objective': 'preference', 'train': short}
  dpo = {'gamma': 1.0, 'beta': 1.5, 'normalize': False, 'sft_weight': 0.0}
  c.arms.dpo_rankings = {
    'objective': 'preference', 'loss': dpo, 'train': short | {'lr': 3e-5},
    'data': {'pairs': 'rankings'},
  }  # fmt: skip
  for preset in common.presets(arg, table):
    preset(c)
  return c


def learning() -> ConfigDict:
  """How a policy learns from the rewards of its own answers."""
  c = ConfigDict()
  c.prompts = ''  # KIND:PATH; empty: the playroom's
  c.count = 4096  # of those
  c.closed = 0.25  # share of them with a short answer that a rule can check
  c.judge = 'reward'  # a reward model of the run, or truth of the playroom
  c.value = 'reward'  # what the value starts from, or base
  c.shared = True  # policy and value on one base: all that is frozen
  c.form = 'sound'  # or original: docs/reproduction.md
  c.rule = 'sound'  # of what is correct, or original

  # The reward: the model's score and what is added to it.
  c.reward = ConfigDict()
  c.reward.model = 1.0
  c.reward.no_end = -2.0  # an answer that does not end
  # One of max_new tokens, shorter ones in proportion. Without it answers come
  # to leave out what is there, with a price of length even more.
  c.reward.length = 1.5
  c.reward.correct = 2.0  # where a rule says so
  c.reward.bias = 0.0
  c.normalize = True  # a point is a deviation of the first rollout's scores

  c.kl = 0.05  # coefficient; fixed where kl_rate is 0
  c.kl_estimator = 'k1'  # or k2, k3
  c.kl_target = 6.0  # nats an answer
  c.kl_rate = 0.0
  c.gamma = 1.0
  c.lam = 0.95

  c.rollout = 128  # prompts, each answered once
  c.epochs = 2  # over a rollout
  c.max_prompt = 64  # tokens, the picture among them
  c.max_new = 56
  c.temperature = 1.0
  c.slots = 128  # answers that are written side by side
  c.score_batch = 64

  c.clip = 0.2
  c.value_clip = 1e6  # no clip
  c.value_coef = 0.5
  c.value_rate = 3.0  # the value's learning rate in policy's

  c.tell = 8  # answers to read,
  c.tell_every = 10  # of every so manieth rollout
  return c


def recipe_paper(c: ConfigDict) -> None:
  """LLaVA-RLHF's released script, quirks and all (docs/reproduction.md)."""
  c.ppo.update({'form': 'original', 'rule': 'original', 'normalize': False})
  c.ppo.reward.update({
    'model': 1.0, 'no_end': -8.0, 'length': -10.0, 'correct': 2.0, 'bias': 0.0,
  })  # fmt: skip
  c.ppo.update({'kl': 0.1, 'kl_rate': 0.0, 'gamma': 1.0, 'lam': 1.0})
  c.ppo.update({'rollout': 512, 'epochs': 2, 'temperature': 1.0})
  c.ppo.update({'clip': 0.2, 'value_clip': 0.2, 'value_coef': 0.1})
  c.ppo.value_rate = 1.0
  # 4 epochs of 72k prompts; 5 rollouts of warm-up.
  c.train.update({'batch': 256, 'steps': 4 * 562, 'lr': 3e-5})
  c.train.update({'warmup': 5 / 562, 'clip': 1.0, 'weight_decay': 0.0})


def truth(c: ConfigDict) -> None:
  """Judged by who knows the scenes: what PPO does without a reward model."""
  c.stages = ('eyes', 'base', 'train', 'evaluate', 'report')
  c.arms = ConfigDict()
  c.ppo.update({'judge': 'truth', 'value': 'base'})


def ablation(c: ConfigDict) -> None:
  """A reward model without facts too; the points are those of sweep()."""
  c.reward.arms = ConfigDict({'no_facts': {'facts': False}})
  c.arms = ConfigDict()


def small(c: ConfigDict) -> None:
  """Seconds instead of minutes, for tests: every stage, no quality."""
  common.small(c)
  few(c)
  c.train.update({'batch': 8, 'steps': 12})
  for arm in c.arms.values():
    arm.train.batch = 16


def few(c: ConfigDict) -> None:
  """Rollouts of a few short answers."""
  c.ppo.update({'count': 64, 'rollout': 16, 'max_new': 24, 'slots': 16})
  c.ppo.update({'score_batch': 16, 'tell': 2, 'tell_every': 1})


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model by the original's recipe: adapters on one base.

  Prompts over the limit are left out with what is theirs, and counted.
  """

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    recipe_paper(c)
    c.stages = ('train',)
    c.data.skip = True
    c.lora.update({'rank': 64, 'alpha': 16.0})
    c.ppo.update({'max_prompt': 704, 'max_new': 896, 'slots': 64})
    c.ppo.score_batch = 16
    c.train.micro = 16

  return chosen


def sweep() -> list[dict]:
  """What each part of the reward does: facts, rule, length of the answer.

  With the preset `ablation`, whose reward model without facts it needs.
  """
  return [
    {'ppo': {'judge': judge, 'reward': {'correct': correct, 'length': length}}}
    for judge in ('reward', 'no_facts')
    for correct in (2.0, 0.0)
    for length in (-0.5, 0.0)
  ]
