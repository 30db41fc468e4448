"""The base model: a tower that learns to see, then a decoder that talks.

What real runs find in released weights the playroom makes itself: eyes that
were pretrained, and answers that say what usually is there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from rlhfv_jax import hosts
from rlhfv_jax.checkpoint import load_params
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.playroom import dataset
from rlhfv_jax.stages import drawing, eyes, problem
from rlhfv_jax.stages.problem import Data, Setup
from rlhfv_jax.train import session

ROWS = {
  'captions': dataset.describe_rows,
  'questions': dataset.question_rows,
  'looks': dataset.look_rows,
}


def examples(
  s: Setup, split: str, counts: Mapping[str, int]
) -> Iterator[Example]:
  """So many rows of each sort, all about different pictures."""
  world, seed = problem.world(s), s.config.seed
  sorts = [name for name, n in counts.items() for _ in range(n)]

  def rows(numbers: range) -> list[Example]:
    return [
      data_rows.from_dict(row) for i in numbers
      for row in ROWS[sorts[i]](world, split, 1, seed=seed, start=i)
    ]  # fmt: skip

  return drawing.drawn(rows, len(sorts), name=split)


def data(s: Setup) -> tuple[Data, Data]:
  """The base model's training and development rows, drawn once."""
  folder, c = s.folder / 'base', s.config.base
  for split in ('train', 'dev'):
    path = folder / f'{split}.parquet'
    counts = {k: c.dev if split == 'dev' else c[k] for k in ROWS}
    with hosts.in_turn():
      if not path.exists():
        sources.write(path, examples(s, split, counts))
  if 'base' not in s.read:
    # The pictures are our own: none is broken.
    read = lambda split, **options: problem.read(
      s, sources.read(folder / f'{split}.parquet'), name=f'base/{split}',
      check_images=False, **options,
    )  # fmt: skip
    train = read('train', shapes=c.buckets)
    s.read['base'] = train, read('dev', buckets=train.buckets)
  return s.read['base']


def see(s: Setup) -> None:
  """The tower learns to see, as real towers come pretrained."""
  folder, c = s.folder / 'eyes', s.config.eyes.train
  blind = not s.model.config.image_tokens
  if s.config.init or blind or hosts.there(folder / 'done.json'):
    return
  train, dev = data(s)
  params = eyes.init(problem.fresh(s), s.config.model.vision.width)
  session.run(
    session.program(eyes.loss(s.model), params, c, s.mesh), params,
    problem.feed(s, train, c, prepare=told(s, train)), hyper={}, config=c,
    held_out=problem.held_out(s, dev, c.batch, prepare=told(s, dev)),
    folder=folder, name='eyes', mesh=s.mesh,
  )  # fmt: skip


def told(s: Setup, data: Data) -> Callable[[dict], dict]:
  """Turns a batch of rows into one of pictures with what is in them."""
  world, tokens = problem.world(s), s.model.config.image_tokens

  @functools.cache
  def labels(row: int) -> np.ndarray:
    scene = dataset.scene_of(data.rows.ids[max(row, 0)], world)
    return eyes.labels(scene, tokens)

  def prepare(arrays: dict) -> dict:
    seen = np.stack([labels(int(row)) for row in arrays['index']])
    return {k: arrays[k] for k in ('images', 'index')} | {'labels': seen}

  return prepare


def talk(s: Setup) -> None:
  """The model that will be corrected: sees well, talks from habit."""
  folder, c = s.folder / 'base', s.config.base.train
  if s.config.init or hosts.there(folder / 'done.json'):
    return
  train, dev = data(s)
  params = problem.fresh(s)
  if hosts.there(s.folder / 'eyes/params'):
    like = eyes.init(params, s.config.model.vision.width)
    sees = load_params(s.folder / 'eyes/params', like)
    params |= {k: v for k, v in sees.items() if k in params}
  session.run(
    problem.program(s, 'sft', c), params, problem.feed(s, train, c), hyper={},
    config=c, held_out=problem.held_out(s, dev, c.batch), folder=folder,
    name='base', mesh=s.mesh,
  )  # fmt: skip
  s.read.clear()
