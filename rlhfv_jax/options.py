"""Configs from the command line: locked; a wrong key names the right one."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags
from ml_collections import ConfigDict, config_flags

# What people type who come from TRL, LLaMA-Factory, ms-swift and Muffin.
PEERS = {
  'dpo_beta': 'loss.beta',
  'pref_beta': 'loss.beta',
  'dpo_token_weight': 'loss.gamma',
  'dpo_use_average': 'loss.normalize',
  'dpo_label_smoothing': 'loss.label_smoothing',
  'pref_ftx': 'loss.sft_weight',
  'rpo_alpha': 'loss.sft_weight',
  'lora_r': 'lora.rank',
  'lora_rank': 'lora.rank',
  'lora_alpha': 'lora.alpha',
  'lora_target': 'lora.targets',
  'lora_target_modules': 'lora.targets',
  'target_modules': 'lora.targets',
  'learning_rate': 'train.lr',
  'warmup_ratio': 'train.warmup',
  'max_steps': 'train.steps',
  'max_grad_norm': 'train.clip',
  'lr_scheduler_type': 'train.schedule',
  'per_device_train_batch_size': 'train.batch',
  'gradient_accumulation_steps': 'train.micro',
  'logging_steps': 'train.log_every',
  'save_steps': 'train.save_every',
  'eval_steps': 'train.eval_every',
  'save_total_limit': 'train.keep',
}


def module(path: str) -> ModuleType:
  """A config file as a module: get_config(arg), sweep() where it has one."""
  file = Path(path)
  if not file.is_file():
    near = difflib.get_close_matches(
      file.name, [p.name for p in Path('configs').glob('*.py')]
    )
    hint = f': did you mean configs/{near[0]}?' if near else ''
    raise ValueError(f'--config={path}: no such file{hint}')
  spec = importlib.util.spec_from_file_location(file.stem, file)
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


def load(flag: str) -> ConfigDict:
  """The config that --config=FILE[:presets] names, locked."""
  path, _, arg = flag.partition(':')
  return module(path).get_config(arg or None).lock()


def keys(config: Mapping, prefix: str = '') -> Iterable[str]:
  """All keys of a config, dotted."""
  for name, value in config.items():
    yield prefix + name
    if isinstance(value, Mapping | ConfigDict):
      yield from keys(value, f'{prefix}{name}.')


def nearest(key: str, known: Sequence[str]) -> str:
  """What a wrong key probably meant, as the end of a sentence."""
  last = key.split('.')[-1]
  if last in PEERS and PEERS[last] in known:
    return f'here it is --config.{PEERS[last]}'
  by_end = [k for k in known if k.split('.')[-1] == last]
  if near := by_end or difflib.get_close_matches(key, known, n=1, cutoff=0.5):
    return f'did you mean --config.{min(near, key=len)}?'
  top = sorted({k.split('.')[0] for k in known})
  return f'the top level has {", ".join(top)}'


def check(argv: Sequence[str]) -> None:
  """Raises for an override of a key that the config does not have."""
  named = [a.split('=', 1)[1] for a in argv if re.match(r'--?config=', a)]
  if not named:
    raise ValueError(
      'say which experiment: --config=configs/ddpo.py (see configs/)'
    )
  known = list(keys(load(named[-1])))
  for arg in argv:
    if match := re.match(r'--?(?:no)?config\.([\w.]+)', arg):
      key = match[1]
      if key not in known:
        raise ValueError(f'no key config.{key}: {nearest(key, known)}')


def read(argv: Sequence[str]) -> ConfigDict:
  """The config that --config and --config.KEY=VALUE describe, locked."""
  check(argv)
  own = flags.FlagValues()
  config_flags.DEFINE_config_file('config', lock_config=True, flag_values=own)
  try:
    own(['read', *argv])
  except (TypeError, flags.Error) as error:
    raise ValueError(str(error)) from error
  return own.config


def parse(argv: Sequence[str]) -> list[str]:
  """absl's flags_parser, with errors of one sentence."""
  try:
    if not any(re.match(r'--?help', a) for a in argv):
      check(argv)
    return flags.FLAGS(argv)
  except (ValueError, TypeError, flags.Error) as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from error


def run(main) -> None:
  """app.run, with this parser. Data alone means its source."""
  short = re.compile(r'^(--?config\.data)=')
  # In place: what makes flags of a config's keys reads it there.
  sys.argv[:] = [short.sub(r'\1.source=', arg) for arg in sys.argv]
  app.run(main, flags_parser=parse)
