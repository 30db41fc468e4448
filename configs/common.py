"""What experiments share: the playroom's model and data, training defaults.

A config is one experiment, written to be copied. Its string argument picks
presets: `configs/ddpo.py:playroom,llava`.
"""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from rlhfv_jax.meshes import SLICES
from rlhfv_jax.models.presets import PRESETS, preset

REAL = tuple(PRESETS)
EYES_STAY = ('(vision_tower|query).*', 'frozen')
# First match wins: 'trained', 'decayed' (with weight decay) or 'frozen'.
ALL_TRAINED = (('.*(kernel|embedding)', 'decayed'), ('.*', 'trained'))
ADAPTERS_ALONE = (('.*lora_[ab]', 'trained'), ('.*', 'frozen'))
DECODER = 'q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj'


def presets(arg: str | None, table: Mapping[str, Callable]) -> list[Callable]:
  """The presets that a config's string names, in its order."""
  names = [n for n in (arg or 'playroom').split(',') if n]
  known = {**table, **{name: chips(name) for name in SLICES}}
  unknown = [n for n in names if n not in known]
  if unknown:
    raise ValueError(
      f'no preset {unknown[0]!r}: this config has {", ".join(sorted(table))}, '
      'and chips like v5e-16 (rlhfv_jax/meshes.py)'
    )
  return [known[n] for n in names]


def chips(name: str) -> Callable[[ConfigDict], None]:
  """How the model lies on some chips; what the compiler is told follows from
  those that are there."""

  def chosen(c: ConfigDict) -> None:
    c.mesh = SLICES[name].mesh

  return chosen


def playroom() -> ConfigDict:
  """The embedded world: pictures with known truth, a model of 0.9M numbers."""
  c = ConfigDict()
  c.seed = 0
  c.workdir = ''  # empty: runs/<experiment>-<presets>
  c.mesh = (1, -1, 1)  # data, fsdp, tensor; -1 is the devices that are left
  c.init = ''  # weights to begin with: what `convert import` made; empty: none

  c.world = ConfigDict()  # what the pictures show: playroom/scene.py World
  c.world.told = False  # in words too, before the first question
  c.model = model('muffin')
  c.chat = ConfigDict({'template': 'playroom', 'score_template': False})
  c.image = ConfigDict({'size': 96, 'policy': 'squash'})

  # The tower, before the model: real ones come pretrained too.
  c.eyes = ConfigDict()
  c.eyes.train = train(batch=128, steps=500, lr=2e-3, warmup=0.1)
  c.eyes.train.update({'optimizer': 'muon', 'b2': 0.98})
  c.eyes.train.update({'save_every': 200, 'eval_every': 200})

  # The base model: captions that name what usually is there, and true answers
  # to closed questions and to what is at each place.
  c.base = ConfigDict()
  c.base.captions = 6000
  c.base.questions = 6000
  c.base.looks = 4000
  c.base.dev = 128
  c.base.buckets = 2
  c.base.train = train(batch=32, steps=2000, lr=2e-3, warmup=0.05)
  c.base.train.b2 = 0.98
  # A decoder that knows nothing yet would spoil the eyes.
  c.base.train.rules = (EYES_STAY, *ALL_TRAINED)
  c.base.train.weight_decay = 0.01
  c.base.train.update({'save_every': 200, 'eval_every': 300, 'log_every': 20})

  # Corrections: sampled answers of the base model, mended where wrong.
  c.feedback = ConfigDict()
  c.feedback.pairs = 1400
  c.feedback.dev_pairs = 128
  c.feedback.temperature = 0.7
  # How often who corrects believes a wrong claim, and a fourth as often doubts
  # a right one; the development pairs are always corrected with care.
  c.feedback.noise = 0.0
  c.feedback.batch = 128
  c.feedback.round = 512  # pictures asked about at a time

  # Or rankings: two sampled answers to each picture, and which is better.
  c.rankings = ConfigDict({'pairs': 1400, 'dev_pairs': 128, 'test_pairs': 512})
  c.rankings.source = ''  # KIND:PATH of somebody's; empty: the playroom
  c.rankings.temperature = 1.0

  c.data = ConfigDict()
  c.data.source = ''  # KIND:PATH; empty: the playroom
  c.data.pairs = 'corrections'  # or rankings: what of the playroom is learned
  c.data.dev = 0.05  # share of its pictures that is only looked at
  # Of a source: rows that cannot be used are left out and counted; otherwise
  # the first ends the run. A model's own answers are always left out.
  c.data.skip = False
  # What was corrected: exact are the annotator's spans, replaced those without
  # pure insertions and deletions, muffin the released code's diff of token ids.
  c.data.diff = 'exact'
  c.data.buckets = 1  # static shapes, each compiled once
  c.data.workers = 0  # processes that read ahead; 0: threads of this one
  # How training looks at its pictures: none changes nothing, trusted nothing
  # that could make an answer wrong; untrusted crops and flips as Muffin did.
  c.data.augment = 'none'
  # cache: what a tower that stays saw is kept in the run's folder, and only
  # the connector reads it; none: the tower looks again in every step.
  c.data.features = 'none'
  c.data.views = 1  # looks at a picture; each is a row, and has a reference

  # Adapters (arXiv 2106.09685) on the base model; rank 0: train the model.
  c.lora = ConfigDict()
  c.lora.rank = 0
  c.lora.alpha = 16.0  # what they add is multiplied by alpha / rank
  c.lora.targets = f'.*language_model.*({DECODER})'
  c.lora.base = 'float32'  # or bfloat16, int8: what the base is kept in
  c.lora.rules = ADAPTERS_ALONE  # in place of train.rules

  c.reference = ConfigDict({'batch': 64})

  c.evaluate = ConfigDict()
  c.evaluate.split = 'test'  # tuning looks at dev
  c.evaluate.scenes = 512
  c.evaluate.batch = 128
  c.evaluate.max_new = 56
  return c


def model(tower: str) -> ConfigDict:
  """A small vision language model: a tower, a connector, a Llama."""
  c = ConfigDict()
  c.text = ConfigDict()
  c.text.vocab_size = 128
  c.text.width = 96
  c.text.mlp = 256
  c.text.depth = 3
  c.text.heads = 4
  c.text.kv_heads = 4
  c.text.max_length = 192
  c.vision = ConfigDict({'image_size': 96, 'patch': 32})
  c.vision.width = 96
  c.vision.mlp = 288
  c.vision.depth = 3
  c.vision.heads = 4
  if tower == 'muffin':
    c.vision.kind, c.vision.queries, c.connector = 'beit3', 9, 'linear'
  else:
    c.vision.kind, c.connector = 'clip', 'mlp2x'
  c.dtype = 'float32'
  c.remat = 'none'  # or dots, attention, full: what is made again going back
  c.attention = 'auto'  # or xla, splash (TPU), split (GPU), stretches
  return c


def train(*, batch: int, steps: int, lr: float, warmup: float) -> ConfigDict:
  """How a stage is trained."""
  c = ConfigDict()
  c.batch = batch
  c.micro = 1  # micro-batches a step: less memory, the same numbers
  c.steps = steps
  c.lr = lr
  c.warmup = warmup  # share of the steps
  c.schedule = 'cosine'  # or linear, constant
  c.clip = 1.0
  # adamw: 8 bytes for each number that is trained; adamw_bf16: 6; muon: 4, and
  # practice needs half the steps; adafactor: hardly any.
  c.optimizer = 'adamw'
  c.b1, c.b2, c.eps = 0.9, 0.999, 1e-8
  c.weight_decay = 0.0
  c.rules = ALL_TRAINED
  c.frozen_dtype = 'float32'  # or bfloat16, int8: what is not trained
  c.log_every = 10
  c.save_every = 50
  c.eval_every = 20
  c.keep = 2
  c.best = 'eval_loss:min'
  c.patience = (
    0  # evaluations without a new best before an early stop; 0: never
  )
  return c


def rewarded(c: ConfigDict) -> None:
  """A reward model, which learns from rankings and is told facts."""
  # A ranking is one bit about two answers, and cheaper than a correction. As
  # many as LLaVA-RLHF has.
  c.rankings.update({'pairs': 10000, 'dev_pairs': 256})
  # Before that it practises on made-up answers with marked mistakes: so many
  # pairs about each picture of which the base learned true answers; 0: none.
  c.practice = ConfigDict({'each': 4, 'buckets': 2})
  c.practice.marks = 4.0  # what a sentence's marks weigh beside a ranking,
  c.practice.counts = 1.0  # and how many claims are wrong and right
  c.practice.train = train(batch=32, steps=1200, lr=3e-3, warmup=0.05)
  c.practice.train.update({'optimizer': 'muon', 'b2': 0.98})
  c.practice.train.update({'save_every': 400, 'eval_every': 400})
  c.practice.train.rules = (EYES_STAY, *ALL_TRAINED)
  c.reward = ConfigDict()
  c.reward.init = ''  # one that is there: RUN/reward, or an import; empty: none
  c.reward.facts = True
  c.reward.centring = 1e-3  # keeps scores around zero
  c.reward.batch = 64  # answers scored at a time
  # What follows an answer, and how the reply to it begins. The playroom's words
  # are those that its model knows.
  c.reward.prompt = ConfigDict()
  c.reward.prompt.question = '{facts}is what you say in the picture?'
  c.reward.prompt.known = 'the picture shows: '  # before the facts
  c.reward.prompt.each = '{fact} '
  c.reward.prompt.reply = ''
  c.reward.prompt.file = ''  # or the text of LLaVA-RLHF, from its own file
  c.reward.train = train(batch=32, steps=400, lr=3e-4, warmup=0.1)
  c.reward.train.update({'optimizer': 'muon'})
  c.reward.train.update({'eval_every': 100, 'save_every': 200})
  c.reward.train.rules = (EYES_STAY, *ALL_TRAINED)
  c.reward.arms = ConfigDict({'no_facts': {'facts': False}})


def real(name: str) -> Callable[[ConfigDict], None]:
  """A released model: its numbers, its template and its pictures."""

  def chosen(c: ConfigDict) -> None:
    found = preset(name)
    c.model = ConfigDict(found['model'])
    c.model.dtype = 'bfloat16'  # of what is computed; parameters are float32
    c.model.update({'remat': 'full', 'attention': 'auto'})
    c.lora.base = 'bfloat16'
    c.chat.template = found['template']
    c.image.update(found['image'])
    c.evaluate.update({'max_new': 1024, 'batch': 16})
    c.arms = ConfigDict()

  return chosen


def llava(c: ConfigDict) -> None:
  """LLaVA's shape: the patches of a CLIP tower through two layers."""
  c.model = model('llava')


def lora(c: ConfigDict) -> None:
  """Adapters instead of the model: few numbers, so longer steps."""
  c.lora.rank = 8
  if 'reward' in c:
    c.reward.train.lr *= 10
    c.reward.train.optimizer = 'adamw'  # what muon turns stays as it is
  for part in (c, *c.get('arms', {}).values()):
    if 'train' not in part:
      continue
    # A whole model learns a preference in much shorter steps than text.
    preferring = part.get('objective', c.objective) == 'preference'
    part.train.lr *= 50 if preferring else 10


def blind(c: ConfigDict) -> None:
  """The same language model without eyes: what the prior alone knows."""
  c.model.vision = None


def small(c: ConfigDict) -> None:
  """Seconds instead of minutes, for tests: every stage, no quality."""
  c.model.text.update({'width': 32, 'mlp': 64, 'depth': 2, 'heads': 2})
  c.model.text.kv_heads = 2
  if c.model.vision is not None:
    c.model.vision.update({'width': 32, 'mlp': 64, 'depth': 2, 'heads': 2})
    if c.model.vision.kind == 'beit3':
      c.model.vision.queries = 9
  c.base.update({'captions': 64, 'questions': 32, 'looks': 32})
  c.eyes.train.update({'batch': 16, 'steps': 4, 'save_every': 2})
  c.base.train.update({'batch': 16, 'steps': 12, 'save_every': 4})
  c.base.train.update({'eval_every': 6, 'log_every': 1})
  c.base.dev = 16
  c.feedback.update({'pairs': 48, 'dev_pairs': 16, 'batch': 32, 'round': 64})
  c.rankings.update({'pairs': 48, 'dev_pairs': 16, 'test_pairs': 16})
  if 'reward' in c:
    c.practice.each = 1
    c.practice.train.update({'batch': 16, 'steps': 6, 'save_every': 2})
    c.practice.train.update({'eval_every': 3, 'log_every': 1})
    c.reward.batch = 16
    c.reward.train.update({'batch': 16, 'steps': 6, 'save_every': 2})
    c.reward.train.update({'eval_every': 3, 'log_every': 1})
  c.reference.batch = 16
  if 'train' in c:
    c.train.update({'batch': 16, 'steps': 6, 'save_every': 2})
    c.train.update({'eval_every': 3, 'log_every': 1})
  for arm in c.get('arms', {}).values():
    arm.train.steps = 6
  c.evaluate.update({'scenes': 32, 'batch': 32, 'max_new': 24})
