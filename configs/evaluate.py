"""Benchmarks of a model that is there: an import's, or a finished run's.

python -m rlhfv_jax.main --config=configs/evaluate.py:playroom \\
  --config.init=runs/ddpo
python -m rlhfv_jax.main --config=configs/evaluate.py:rlhfv_13b \\
  --config.benchmarks=objhal,mmhal,pope --config.init=WORKDIR \\
  --config.judge.model=gpt-4o --config.judge.url=https://api.openai.com/v1

The official files are looked for in the folder benchmarks/, or where they are
said to be: --config.pope.path=..., --config.pope.images=... Without a judge
objhal, overgeneralization and hallusionbench go by words.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  table = {
    'playroom': lambda c: None,
    'llava': common.llava,
    'small': common.small,
  } | {name: real(name) for name in common.REAL}
  c = common.playroom()
  c.name = 'evaluate'
  c.stages = ('answer', 'score', 'show')
  c.benchmarks = 'playroom'
  c.files = 'benchmarks'  # where the official files are
  c.trained = ''  # KIND:PATH of what it was trained on, if init does not say

  c.evaluate.update({'temperature': 0.0, 'top_p': 1.0, 'top_k': 0})
  c.evaluate.update({'beams': 1, 'repetition_penalty': 1.0})

  c.judge = ConfigDict()
  c.judge.model = ''  # empty: no judge
  c.judge.url = ''  # of an OpenAI-compatible endpoint; empty: kept replies only
  c.judge.key_env = 'OPENAI_API_KEY'  # the variable that holds the key
  c.judge.cache = ''  # where replies are kept; empty: judge/ in the workdir
  c.judge.batch = ''  # a folder for batch files, instead of asking at once
  c.judge.prompts = ''  # a folder with official ones, as mmhal.txt
  c.judge.runs = 1  # times that everything is judged
  c.judge.options = ''  # JSON over the calls' own: {"max_tokens": null}
  c.judge.concurrency = 8
  c.judge.retries = 6
  c.judge.timeout = 120.0  # seconds for a reply
  c.judge.backoff = 1.0  # seconds before the first retry, then doubled
  c.judge.price_in = 0.0  # for a million tokens, for the estimate
  c.judge.price_out = 0.0
  c.judge.partial = False  # score without requests that nobody answered

  for name, settings in BENCHMARKS.items():
    c[name] = ConfigDict({'path': '', **settings, 'max_new': 0})
  for preset in common.presets(arg, table):
    preset(c)
  return c


# What can be said of each: empty is looked for in config.files, or left out.
# `judged` asks the judge if there is one; `strict` parses as the original does,
# to the bit; `max_new` 0 is config.evaluate.max_new.
_OBJECTS = {'truth': '', 'lexicon': '', 'strict': True, 'judged': True}
BENCHMARKS = {
  'playroom': {},
  'objhal': _OBJECTS,
  'overgeneralization': {**_OBJECTS, 'corpus': ''},
  'chair': {'images': '', 'lexicon': '', 'strict': True},
  'mmhal': {'images': '', 'strict': True},
  'mhumaneval': {'images': '', 'labels': ''},
  'llava_bench': {'images': '', 'strict': True},
  'vqa': {'images': '', 'annotations': '', 'strict': True},
  'pope': {'images': '', 'suffix': '', 'strict': True},
  'amber': {'images': '', 'task': 'all', 'strict': True},
  'hallusionbench': {'images': '', 'strict': True, 'judged': True},
}


def real(name: str):
  """A released model, on what the two papers measure."""

  def chosen(c: ConfigDict) -> None:
    common.real(name)(c)
    c.benchmarks = 'objhal,mmhal,pope'
    for short in ('pope', 'vqa', 'hallusionbench'):
      c[short].max_new = 64

  return chosen
