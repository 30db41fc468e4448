"""An experiment: its stages, each leaving files that the next one reads.

Every stage is resumable and is done at once where its result is there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rlhfv_jax import (
  adapt,
  answers,
  bench,
  comparison,
  evaluate,
  feedback,
  files,
  given,
  pretrain,
  problem,
  provenance,
  report,
  scoring,
  session,
  tally,
)
from rlhfv_jax.data import chat, sources
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.generate import Decoding
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import from_record
from rlhfv_jax.playroom.truth import unsupported
from rlhfv_jax.problem import Data, Setup


def run(config: ConfigDict, folder: Path, mesh: Mesh) -> None:
  """All stages that the config names, in its order."""
  unknown = [s for s in config.stages if s not in STAGES]
  if unknown:
    raise ValueError(
      f'config.stages: no stage {unknown[0]!r}, there are {", ".join(STAGES)}'
    )
  made = problem.setup(config, folder, mesh)
  for stage in config.stages:
    STAGES[stage](made)


def answerer(
  s: Setup, params: Path, decoding: Decoding, batch: int
) -> Callable:
  """(questions, path=, name=) -> answers of the parameters in a folder."""
  return functools.partial(
    answers.answer, s.model, problem.load(s, params), tokenizer=s.tokenizer,
    template=problem.template(s), image_size=s.config.image.size,
    image_policy=s.config.image.policy, decoding=decoding, batch=batch,
    key=jax.random.key(s.config.seed + 1), mesh=s.mesh,
  )  # fmt: skip


def collect(s: Setup) -> None:
  """Sampled answers of the base model, corrected where they are wrong."""
  folder, c = s.folder / 'feedback', s.config.feedback
  wanted = {'train': c.pairs, 'dev': c.dev_pairs}
  if all((folder / f'{split}.parquet').exists() for split in wanted):
    return
  sampled = dataclasses.replace(greedy(s), temperature=c.temperature)
  answer = answerer(s, problem.base(s), sampled, c.batch)
  for split, n in wanted.items():
    feedback.collect(
      problem.world(s), split, n, seed=s.config.seed, round_size=c.round,
      answer=answer, folder=folder, path=folder / f'{split}.parquet',
    )  # fmt: skip


def pairs(s: Setup) -> tuple[Data, Data]:
  """The corrections as rows; read once for all that treat them alike."""
  c, where = s.config, 'data' if s.config.data.source else 'feedback'
  key = f'pairs {c.data.to_json()} {c.chat.to_json()}'
  if key not in s.read:
    if c.data.source:
      told = given.pairs(c.data.source, dev=c.data.dev)
    else:
      told = {side: sources.read(s.folder / f'feedback/{side}.parquet')
              for side in ('train', 'dev')}  # fmt: skip
    train = problem.read(
      s, told['train'], name=f'{where}/train', shapes=c.data.buckets,
      augment=c.data.augment, looks=c.data.views,
    )  # fmt: skip
    dev = problem.read(
      s, told['dev'], name=f'{where}/dev', buckets=train.buckets
    )
    s.read[key] = train, dev
  return s.read[key]


def reference(s: Setup) -> None:
  """Every pair's log-probs under the base model, once."""
  for data, split in zip(pairs(s), ('train', 'dev'), strict=True):
    reference_of(s, data, split)


def reference_of(s: Setup, data: Data, split: str) -> data_rows.Lookup:
  """Of the base as it is kept under what is trained: they start even."""
  path, begin = problem.base(s), problem.start(s)
  params = adapt.base(path, problem.abstract_params(s), begin, s.mesh)
  kept = '' if begin.kept == 'float32' else f'-{begin.kept}'
  images_of = None
  if data.images is not None:
    images_of = lambda index: np.stack([data.images[max(i, 0)] for i in index])  # noqa: E731
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
    },
    buckets=data.buckets, batch=s.config.reference.batch, mesh=s.mesh,
  )  # fmt: skip


def align(s: Setup, config: ConfigDict, folder: Path, name: str) -> None:
  """Trains the base model on the pairs, by the config's objective."""
  if (folder / 'done.json').exists():
    return
  s = s._replace(config=config)
  path, begin = problem.base(s), problem.start(s)
  c = problem.overridden(config.train, {'rules': begin.rules})
  train, dev = pairs(s)
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


def train(s: Setup) -> None:
  align(s, s.config, s.folder, s.config.name)


def arms(s: Setup) -> None:
  """What else the same pairs can do: each arm is the config, overridden."""
  for name, overrides in s.config.arms.items():
    config = problem.overridden(s.config, overrides)
    align(s, config, s.folder / 'arms' / name, name)


def evaluated(s: Setup) -> dict[str, Path]:
  """The parameters that are compared, by name."""
  found = {'base': problem.base(s)}
  if 'train' in s.config.stages:
    found[s.config.name] = s.folder / 'params'
  if 'arms' in s.config.stages:
    found |= {k: s.folder / 'arms' / k / 'params' for k in s.config.arms}
  return found


def scores(
  s: Setup, params: Mapping[str, Path], *, split: str, folder: Path
) -> dict[str, Any]:
  """Greedy answers of every model to the same questions, and their scores."""
  c, truth = s.config.evaluate, folder / 'truth'
  asked = evaluate.prepare(
    truth, problem.world(s), split, c.scenes, seed=s.config.seed
  )
  return {
    name: evaluate.evaluate(
      name, asked=asked, answer=answerer(s, path, greedy(s), c.batch),
      folder=folder / 'answers', truth=truth,
    )
    for name, path in params.items()
  }  # fmt: skip


def greedy(s: Setup) -> Decoding:
  return Decoding(
    max_new=s.config.evaluate.max_new,
    stop=chat.stops(s.tokenizer, problem.template(s)).ids,
  )


def measure(s: Setup) -> None:
  """results.json: every model's scores, and how they came about."""
  path, split = s.folder / 'results.json', s.config.evaluate.split
  if not path.exists():
    found = scores(s, evaluated(s), split=split, folder=s.folder)
    made = provenance.of(s.config, greedy(s), s.folder / 'truth')
    left = {'rows': tally.used(s.folder),
            'rows not used': tally.left_out(s.folder)}  # fmt: skip
    files.write_json(path, made | left | {'models': found})


def tell(s: Setup) -> None:
  retell(s.folder)


def retell(folder: Path) -> None:
  """The page and the table of a run, from the files it left."""
  scenes = {
    record['id']: from_record(record)
    for record in files.read_lines(folder / 'truth/describe.jsonl')
  }
  report.write(
    folder,
    pictures=lambda id: png(draw(scenes[id])),
    wrong=lambda row: [
      (claim.start, claim.end, claim.category)
      for claim in unsupported(scenes[row['id']], row['answer'])
    ],
  )
  print(report.table(files.read_json(folder / 'results.json')))
  print(f'\n{folder / "report.html"}')


def answer(s: Setup) -> None:
  """Answers of the model in config.init to the benchmarks."""
  decoding, batch = greedy(s), s.config.evaluate.batch
  ready = lambda: answerer(s, problem.base(s), decoding, batch)
  bench.answer(s, ready)


def show(s: Setup) -> None:
  """The tables of all benchmarks, and their page."""
  comparison.tell([s.folder / 'results.json'], s.folder / 'report.html')


STAGES = {
  'eyes': pretrain.see,
  'base': pretrain.talk,
  'feedback': collect,
  'reference': reference,
  'train': train,
  'arms': arms,
  'evaluate': measure,
  'report': tell,
  'answer': answer,
  'score': bench.score,
  'show': show,
}
