"""Practice: who is to judge learns to hold sentences against a picture.

A ranking is one bit about two whole answers, and a small model would have to
find out from it what a mistake is. Real reward models begin from one that has
answered many questions about annotated pictures; here pairs of descriptions
with mistakes are ranked, and of every sentence it is told which parts are
wrong. The pictures are those that the base learned true answers about.

practice/spotting/    the training, with a linear probe
practice/params/      what is left of it: a base with a head, to begin from
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhfv_jax import files, hosts, models
from rlhfv_jax.checkpoint import save_params
from rlhfv_jax.data import judgement, sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.metrics import Mean
from rlhfv_jax.models.score import score_of_hidden
from rlhfv_jax.objectives.reward import reward_loss
from rlhfv_jax.objectives.spotting import counting_loss, spotting_loss
from rlhfv_jax.playroom import annotator, captions, dataset, mistakes, truth
from rlhfv_jax.playroom.claims import CATEGORIES
from rlhfv_jax.playroom.language import DESCRIBE
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import Scene, World, rng_of
from rlhfv_jax.stages import drawing, problem
from rlhfv_jax.stages.problem import Data, Setup
from rlhfv_jax.train import session

COLOUR = CATEGORIES.index('attribute')
LESS = 0.3  # of the pairs differ in a sentence that one of them lacks


def wanted(s: Setup) -> bool:
  """Whether a reward model begins with it: neither one of adapters, whose base
  is the policy's, nor one on a model that was brought."""
  c = s.config
  return bool(c.practice.each) and not c.init and not c.lora.rank


def scenes(s: Setup, split: str) -> Iterator[Scene]:
  """Of the pictures that the base learned true answers about."""
  world, c = problem.world(s), s.config.base
  start = c.captions if split == 'train' else c.dev
  for seen, name in (
    (world, 'questions'), (dataset.looked_at(world), 'looks')
  ):  # fmt: skip
    n = c[name] if split == 'train' else c.dev
    yield from dataset.scenes(seen, split, n, seed=s.config.seed, start=start)
    start += n


def pair(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
  """Two descriptions with mistakes, the better one first.

  Of some the second is the first without a sentence, often a true one: they
  differ in what they leave out, as answers of a model do that errs seldom.
  """
  while True:
    one = mistakes.mistaken(scene, rng)
    less = rng.random() < LESS
    other = (
      mistakes.shorter(one, rng) if less else mistakes.mistaken(scene, rng)
    )
    order = annotator.rank(scene, one, other)
    if other and order is not None:
      said = one, other
      return said[order], said[1 - order]


def examples(s: Setup, split: str) -> Iterator[Example]:
  """Pairs for each picture, and what of every sentence is wrong."""
  world, there = problem.world(s), list(scenes(s, split))
  each = s.config.practice.each if split == 'train' else 1

  def rows(numbers: range) -> list[Example]:
    return [row for i in numbers for row in ranked(world, there[i], i, each)]

  return drawing.drawn(rows, len(there), name=f'practice {split}')


def ranked(world: World, scene: Scene, i: int, each: int) -> Iterator[Example]:
  """So many pairs about the i-th picture."""
  rng = rng_of(scene, mistakes.STREAM)
  request = captions.asked(scene, DESCRIBE[i % len(DESCRIBE)], world)
  asked = Example(scene.id, png(draw(scene)), (('user', request),))
  for k in range(each):
    said = pair(scene, rng)
    marks = [mistakes.wrong(scene, one).astype(int).tolist() for one in said]
    counts = [truth.counts(scene, one) for one in said]
    yield replace(
      asked, id=f'{scene.id}-mistaken-{k}', answers=said,
      extra={'wrong': marks, 'counts': counts},
    )  # fmt: skip


def data(s: Setup) -> tuple[Data, Data]:
  folder, c = s.folder / 'practice', s.config
  for split in ('train', 'dev'):
    path = folder / f'{split}.parquet'
    with hosts.in_turn():
      if not path.exists():
        sources.write(path, examples(s, split))
  asks = judgement.of(
    c.reward.prompt.to_dict(), problem.template(s), facts=False, seed=c.seed
  )
  read = lambda split, **options: problem.read(
    s, sources.read(folder / f'{split}.parquet'), name=f'practice/{split}',
    check_images=False, suffix=asks, **options,
  )  # fmt: skip
  train = read('train', shapes=c.practice.buckets)
  return train, read('dev', buckets=train.buckets)


def learn(s: Setup) -> None:
  """practice/params/: the base and a head after it."""
  folder, c = s.folder / 'practice', s.config.practice
  if not wanted(s) or hosts.there(folder / 'done.json'):
    return
  train, dev = data(s)
  params = problem.load(s, problem.base(s)) | models.score_head(s.model)
  params |= probes(s.model)
  told = {'read': True}
  params = session.run(
    session.program(loss(s.model), params, c.train, s.mesh), params,
    problem.feed(s, train, c.train, prepare=asked(s, train), **told),
    hyper={'marks': c.marks, 'counts': c.counts,
           'centring': s.config.reward.centring},
    config=c.train, held_out=problem.held_out(
      s, dev, c.train.batch, prepare=asked(s, dev), **told
    ),
    folder=folder / 'spotting', name='practice', mesh=s.mesh,
  )  # fmt: skip
  del params['probe'], params['counter']
  save_params(folder / 'params', params)
  files.write_json(folder / 'done.json', {'steps': c.train.steps})


def probes(model: Any) -> dict[str, Any]:
  """Linear maps from a state to the kinds of mistakes and to how many claims
  are wrong and right; zero at first."""
  width = model.config.text.width
  zeros = lambda n: {'kernel': jnp.zeros((width, n)), 'bias': jnp.zeros(n)}
  return {'probe': zeros(len(CATEGORIES)), 'counter': zeros(2)}


def asked(s: Setup, data: Data) -> Callable[[dict], dict]:
  """Adds to a batch what of a sentence is wrong, at its last word, and how many
  claims of each answer are wrong and right.

  That is the thing that it tells of: all that is said of it came before. A
  colour that is wrong is marked at its own word too. Who writes has no use for
  it afterwards, so nothing carries it on to the thing as it is.
  """
  stop = s.tokenizer.convert_tokens_to_ids('.')

  @functools.cache
  def told(row: int) -> list[tuple[np.ndarray, list[int]]]:
    extra = data.source[row].extra
    marks = [np.array(x, np.int8) for x in extra['wrong']]
    return list(zip(marks, extra['counts'], strict=True))

  def prepare(arrays: dict) -> dict:
    tokens, roles = arrays['tokens'], arrays['roles']
    labels = np.full((*tokens.shape, len(CATEGORIES)), -1, np.int8)
    counts = np.zeros((*arrays['read'].shape, 2), np.float32)
    for b, row in enumerate(arrays['index']):
      for c, (marks, claims) in enumerate(told(int(row)) if row >= 0 else ()):
        (said,) = np.nonzero(roles[b, c] > 0)
        (ends,) = np.nonzero(tokens[b, said] == stop)
        labels[b, said[ends - 2], COLOUR] = marks[:, COLOUR]
        labels[b, said[ends - 1]] = marks
        counts[b, c] = claims
    return arrays | {'labels': labels, 'counts': counts}

  return prepare


def loss(model: Any) -> Callable:
  """Bradley-Terry, and what `marks` and `counts` weigh of the two others.

  Those are means over what is asked of a micro-batch.
  """

  def run(params, batch, hyper):
    states = models.hidden(model, params, batch)
    real = batch['lengths'][:, 0] > 0
    at = jnp.take_along_axis(states, batch['read'][..., None], axis=1)
    ranked = reward_loss(
      score_of_hidden(params, at), real, centring=hyper['centring']
    )
    spotted = spotting_loss(linear(params['probe'], states), batch['labels'])
    counted = counting_loss(
      linear(params['counter'], at), batch['counts'], real
    )
    each, parts = ranked['loss'], {
      'marks': spotted.pop('loss'), 'counts': counted.pop('loss')
    }  # fmt: skip
    beside = sum(hyper[k] * part.value() for k, part in parts.items())
    return ranked | spotted | counted | {
      'loss': Mean(each.total + beside * each.count, each.count),
      **{f'loss/{k}': part for k, part in parts.items()},
    }  # fmt: skip

  return run


def linear(to: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  """[B,T,D] -> [B,T,n]."""
  return jnp.matmul(x, to['kernel']) + to['bias'][None, None]
