"""Dense DPO on segment-level corrections (RLHF-V, arXiv 2312.00849).

python -m rlhfv_jax.main --config=configs/ddpo.py            the playroom
python -m rlhfv_jax.main --config=configs/ddpo.py:playroom,llava
python -m rlhfv_jax.main --config=configs/ddpo.py:playroom,lora
python -m rlhfv_jax.main --config=configs/ddpo.py:playroom,ranking
python -m rlhfv_jax.main --config=configs/ddpo.py:rlhfv_13b  a real model
python -m launch.sweep   --config=configs/ddpo.py            gamma x beta

A real model wants weights and data: --config.init=FOLDER, which `convert
import` made, and --config.data.source=KIND:PATH.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': recipe_playroom,
    'paper': recipe_paper,
    'released': recipe_released,
    'llava': common.llava,
    'lora': common.lora,
    'blind': common.blind,
    'ranking': ranking,
    'small': common.small,
  } | {name: real(name) for name in common.REAL}
  c = common.playroom()
  c.name = 'ddpo'
  c.stages = ('eyes', 'base', 'feedback', 'reference', 'train', 'arms',
              'evaluate', 'report')  # fmt: skip
  c.objective = 'preference'
  c.loss = ConfigDict()
  c.loss.beta = 0.5
  c.loss.gamma = 5.0  # weight of a corrected token; 1 is DPO
  c.loss.normalize = True  # divide by the sum of the weights (eq. 5)
  c.loss.label_smoothing = 0.0
  c.loss.sft_weight = 0.0
  c.loss.dpo_weight = 1.0
  c.train = common.train(batch=32, steps=132, lr=5e-5, warmup=0.1)
  c.train.rules = (common.EYES_STAY, *common.ALL_TRAINED)
  recipe_playroom(c)

  # What else could be done with the same corrections, tuned on the development
  # pictures too.
  c.arms = ConfigDict()
  dpo = {'gamma': 1.0, 'beta': 1.5, 'normalize': False, 'sft_weight': 0.0}
  c.arms.dpo = {'loss': dpo, 'train': {'lr': 3e-5}}
  c.arms.sft = {'objective': 'sft', 'train': {'lr': 3e-4, 'steps': 132}}

  for preset in common.presets(arg, table):
    preset(c)
  return c


def ranking(c: ConfigDict) -> None:
  """Beside it DPO on as many pairs of sampled answers that were ranked."""
  c.stages = tuple(
    part for stage in c.stages
    for part in (('feedback', 'rankings') if stage == 'feedback' else (stage,))
  )  # fmt: skip
  c.arms.ranked = c.arms.dpo.copy_and_resolve_references()
  c.arms.ranked.data = ConfigDict({'pairs': 'rankings'})


def recipe_playroom(c: ConfigDict) -> None:
  """Tuned on the development pictures of the small world, as its arms are."""
  # Scores are averages over an answer's tokens, so beta is larger than with
  # sums. Without the likelihood of the chosen answer (sft_weight) the drop is
  # larger still, but answers fall silent: coverage is lost.
  c.loss.update({'beta': 20.0, 'gamma': 2.0, 'normalize': True})
  c.loss.sft_weight = 10.0
  c.train.update({'batch': 32, 'steps': 308, 'lr': 4e-5, 'warmup': 0.1})


def recipe_paper(c: ConfigDict) -> None:
  """The paper: eq. 5 on the answer's own tokens, 7 epochs of 1.4k pairs."""
  c.loss.update({'beta': 0.5, 'gamma': 5.0, 'normalize': True})
  c.loss.sft_weight = 0.0
  c.train.update({'batch': 32, 'steps': 306, 'lr': 5e-7, 'warmup': 0.1})
  c.train.weight_decay = 0.0
  c.train.rules = common.ALL_TRAINED
  c.chat.score_template = False
  c.data.diff = 'exact'


def recipe_released(c: ConfigDict) -> None:
  """The released script: a sum, template scored, the original's token diff."""
  c.loss.update({'beta': 0.1, 'gamma': 1.1, 'normalize': False})
  c.loss.sft_weight = 0.0
  c.train.update({'batch': 8, 'steps': 2160, 'lr': 5e-7, 'warmup': 0.03})
  c.train.weight_decay = 0.0
  c.train.rules = common.ALL_TRAINED
  c.chat.score_template = True
  c.data.diff = 'muffin'


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model by the paper's recipe, unless another is named after."""

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    recipe_paper(c)
    c.stages = ('reference', 'train')

  return chosen


def sweep() -> list[dict]:
  """gamma x beta, around the recipe."""
  return [
    {'loss': {'gamma': gamma, 'beta': beta}}
    for gamma in (1.0, 2.0, 5.0, 10.0)
    for beta in (5.0, 20.0, 50.0)
  ]


def tune() -> dict[str, list[dict]]:
  """Five points for each way to learn from corrections: an equal budget."""
  dense = [
    {'loss': {'gamma': gamma, 'sft_weight': sft}, 'train': {'lr': lr}}
    for gamma, sft, lr in (
      (5.0, 5.0, 2e-5), (5.0, 10.0, 2e-5), (5.0, 10.0, 4e-5),
      (5.0, 20.0, 4e-5), (2.0, 10.0, 4e-5),
    )
  ]  # fmt: skip
  dpo = {'gamma': 1.0, 'normalize': False, 'sft_weight': 0.0}
  plain = [
    {'loss': dpo | {'beta': beta}, 'train': {'lr': lr, 'steps': steps}}
    for beta, lr, steps in (
      (0.5, 3e-5, 308), (1.5, 1e-5, 308), (1.5, 3e-5, 308), (4.0, 1e-5, 308),
      (1.5, 3e-5, 132),
    )
  ]  # fmt: skip
  likely = [
    {'objective': 'sft', 'train': {'lr': lr, 'steps': steps}}
    for lr, steps in (
      (1e-4, 132), (2e-4, 132), (3e-4, 132), (3e-5, 308), (1e-4, 308),
    )
  ]  # fmt: skip
  return {'ddpo': dense, 'dpo': plain, 'sft': likely}
