"""Alignment: the base model learns a preference, and what is beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from rlhfv_jax import files, hosts, scoring
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.report import diagnosis
from rlhfv_jax.stages import looking, ppo, problem, provenance
from rlhfv_jax.stages.corrections import pairs
from rlhfv_jax.stages.problem import Data, Setup
from rlhfv_jax.train import adapt, session


def reference(s: Setup) -> None:
  """Every pair's log-probs under the base model, once."""
  for data, split in zip(seen(s), ('train', 'dev'), strict=True):
    reference_of(s, data, split)


def seen(s: Setup) -> list[Data]:
  """The pairs, with what the tower saw of their pictures where that is kept."""
  parts = zip(pairs(s), ('train', 'dev'), strict=True)
  return [looking.looked(s, data, split) for data, split in parts]


def reference_of(s: Setup, data: Data, split: str) -> data_rows.Lookup:
  """Of the base as it is kept under what is trained: they start even."""
  path, begin = problem.base(s), problem.start(s)
  params = adapt.base(path, problem.abstract_params(s), begin, s.mesh)
  kept = '' if begin.kept == 'float32' else f'-{begin.kept}'
  pictures, images_of = data.images, None
  if pictures is not None:
    images_of = lambda index: {
      pictures.key: np.stack([pictures[max(i, 0)] for i in index])
    }
  return scoring.reference(
    s.model, params, data.rows, images_of,
    names=scoring.keys(data.rows, data.digests),
    folder=s.folder / f'reference{kept}' / split,
    fingerprint={
      'parameters': scoring.params_digest(params),
      'tokenizer': provenance.digest(s.tokenizer.get_vocab()),
      'template': provenance.digest(s.config.chat.to_dict()),
      'pictures': provenance.digest(s.config.image.to_dict()),
      'dtype': s.config.model.dtype,
    } | ({'features': 'cached'} if s.config.data.features == 'cache' else {}),
    buckets=data.buckets, batch=s.config.reference.batch, mesh=s.mesh,
  )  # fmt: skip


def align(s: Setup, config: ConfigDict, folder: Path, name: str) -> None:
  """Trains the base model by the config's objective, on the pairs or by PPO."""
  if config.objective == 'ppo':
    ppo.learn(s, config, folder, name)
    return
  if hosts.there(folder / 'done.json'):
    return
  s = s._replace(config=config)
  path, begin = problem.base(s), problem.start(s)
  c = problem.overridden(config.train, {'rules': begin.rules})
  train, dev = seen(s)
  extras = {'train': None, 'dev': None}
  if config.objective == 'preference':
    extras = {k: {'ref_logps': reference_of(s, data, k)}
              for k, data in (('train', train), ('dev', dev))}  # fmt: skip
  if begin.rank:
    adapt.note(folder, path, begin)
  params = adapt.begin(path, problem.abstract_params(s), begin, s.mesh)
  traced = {k: config.loss[k] for k in problem.TRACED if k in config.loss}
  session.run(
    problem.program(s, config.objective, c, params), params,
    problem.feed(s, train, c, extras=extras['train']), hyper=traced, config=c,
    held_out=problem.held_out(s, dev, c.batch, extras=extras['dev']),
    folder=folder, name=name, mesh=s.mesh,
  )  # fmt: skip
  if hosts.leader():
    curves = files.read_lines(folder / 'metrics.jsonl')
    print(diagnosis.said(name, curves), end='')


def train(s: Setup) -> None:
  align(s, s.config, s.folder, s.config.name)


def arms(s: Setup) -> None:
  """What else the same pairs can do: each arm is the config, overridden."""
  for name, overrides in s.config.arms.items():
    config = problem.overridden(s.config, overrides)
    align(s, config, s.folder / 'arms' / name, name)
