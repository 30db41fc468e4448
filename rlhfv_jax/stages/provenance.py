"""Who made this folder: its config, the versions, and what differs from now."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rlhfv_jax import checkpoint, files, hosts

# Of two calls in one workdir.
MAY_DIFFER = ('stages', 'data.workers', 'data.skip')
PACKAGES = ('jax', 'flax', 'optax', checkpoint.PACKAGE, 'grain', 'transformers')


def plain(config: ConfigDict) -> dict[str, Any]:
  """A config as JSON has it."""
  return json.loads(config.to_json_best_effort())


def digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def flat(tree: Mapping, prefix: str = '') -> dict[str, Any]:
  found = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      found |= flat(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = value
  return found


def revision() -> str:
  """The commit of this code, + where it was changed since."""
  git = ['git', '-C', str(Path(__file__).parent), 'describe', '--always',
         '--dirty=+', '--exclude=*']  # fmt: skip
  done = subprocess.run(git, capture_output=True, text=True, check=False)
  return done.stdout.strip() or 'unknown'


def together(folder: Path, config: ConfigDict) -> None:
  """Claims the folder with all processes: one config, one code, one folder."""
  hosts.agree('config', flat(plain(config)) | {'--workdir': str(folder)})
  hosts.agree('code', code())
  with hosts.in_turn():
    claim(folder, config)
    if hosts.leader():
      files.write_text(folder / '.run', uuid.uuid4().hex)
    elif not (folder / '.run').exists():
      raise ValueError(
        f'process {jax.process_index()} does not see what process 0 wrote to '
        f'--workdir={folder}: name a folder that all of them share'
      )
  hosts.agree('folder', {str(folder): (folder / '.run').read_text()})


def code() -> dict[str, str]:
  """What a process runs, by file and by package."""
  root = Path(__file__).parents[1]
  told = {
    str(path.relative_to(root)): digest(path.read_text('utf-8'))
    for path in sorted(root.rglob('*.py'))
  }
  told |= {name: importlib.metadata.version(name) for name in PACKAGES}
  flags = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')
  return told | {name: os.environ.get(name, '') for name in flags}


def claim(folder: Path, config: ConfigDict) -> None:
  """Writes config.json, or finds the same config there; else says what differs.

  Which stages run may differ from call to call, who reads, and whether rows
  that stopped the last call are left out now; nothing else.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f'--workdir={folder}: cannot be written ({error}): choose another'
    ) from error
  path, new = folder / 'config.json', plain(config)
  if path.exists():
    old, now = flat(files.read_json(path)['config']), flat(new)
    differ = [
      f'{k} = {now.get(k)} here and {old.get(k)} there'
      for k in sorted(old.keys() | now.keys())
      if old.get(k) != now.get(k) and k not in MAY_DIFFER
    ]
    if differ:
      raise ValueError(
        f'{folder} was made by another config: {"; ".join(differ[:5])}'
        f'{" ..." if len(differ) > 5 else ""}. Give this one a --workdir of '
        'its own'
      )
    return
  versions = {p: importlib.metadata.version(p) for p in PACKAGES}
  versions['python'] = platform.python_version()
  files.write_json(
    path, {'config': new, 'versions': versions, 'revision': revision()}
  )


def ran(config: ConfigDict) -> dict[str, Any]:
  """What was run, and by which code."""
  return {
    'experiment': config.name,
    'seed': config.seed,
    'config': digest(plain(config)),
    'revision': revision(),
    'jax': importlib.metadata.version('jax'),
  }


def of(config: ConfigDict, decoding: Any, truth: Path) -> dict[str, Any]:
  """What results.json says about how its numbers came about."""
  asked = sorted(truth.glob('*.jsonl'))
  hashed = hashlib.blake2b(b''.join(p.read_bytes() for p in asked),
                           digest_size=8)  # fmt: skip
  return {
    'run': ran(config),
    'prompt': config.chat.template,
    'decoding': dict(vars(decoding)),
    'judge': 'playroom: every claim held against the scene',
    'data': {
      'hash': hashed.hexdigest(),
      'split': config.evaluate.split,
      'n': config.evaluate.scenes,
    },
  }
