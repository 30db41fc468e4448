"""What a config describes: its world, its rows in buckets, model and losses."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from rlhfv_jax import hosts, models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.checkpoint import abstract
from rlhfv_jax.data import (
  cache,
  chat,
  images,
  parallel,
  pipeline,
  plan,
  sources,
  views,
)
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.example import Example
from rlhfv_jax.feed import DataFeed, to_batch
from rlhfv_jax.objectives.preference import preference_loss
from rlhfv_jax.objectives.sft import sft_loss
from rlhfv_jax.playroom.scene import World
from rlhfv_jax.stages import given, provenance, tally
from rlhfv_jax.train import adapt, session


class Setup(NamedTuple):
  """What all stages share."""

  config: ConfigDict
  folder: Path
  mesh: Mesh
  tokenizer: Any
  model: Any
  programs: dict[str, session.Program]  # compiled steps, shared where alike
  read: dict[str, Any]  # data that a later stage may want again


class Data(NamedTuple):
  """Rows with their pictures, in the buckets they are trained in."""

  source: sources.Source
  rows: data_rows.Rows
  images: images.Pictures | None
  buckets: list
  digests: Callable[[int], str]


def setup(config: ConfigDict, folder: Path, mesh: Mesh) -> Setup:
  """Claims the folder for this config and makes what every stage needs."""
  provenance.together(folder, config)
  model = config.model.to_dict()
  template = chat.template(config.chat.template)
  tokenizer = given.words(config.init, model, template)
  if len(tokenizer) > model['text']['vocab_size']:
    raise ValueError(
      f'config.model.text.vocab_size = {model["text"]["vocab_size"]} and the '
      f'tokenizer has {len(tokenizer)} tokens: raise it'
    )
  model['image_token'] = chat.image_token_id(tokenizer, template)
  return Setup(config, folder, mesh, tokenizer, models.build(model), {}, {})


def base(s: Setup) -> Path:
  """Where the parameters are that training begins with."""
  return Path(s.config.init or s.folder / 'base') / 'params'


def world(s: Setup) -> World:
  return World(**s.config.world)


def template(s: Setup) -> chat.Template:
  return chat.template(s.config.chat.template)


def read(
  s: Setup,
  source: sources.Source | given.Side,
  *,
  name: str,
  buckets: list | None = None,
  shapes: int = 1,
  check_images: bool = True,
  augment: str = 'none',
  looks: int = 1,
  suffix: Callable[[Example], str] | str = '',
  brought: bool = False,
) -> Data:
  """Examples as rows; what cannot be used is counted and listed.

  The list is NAME.rejected.json in the workdir. What the run made itself is
  left out then; of what was `brought` only where config.data.skip says so. In
  these buckets (with one more for rows that fit none), or in that many chosen
  from the rows. Each row is there once for each of `looks` views of its
  picture; `suffix` follows each of its answers and is not scored. Of a side of
  a source all of that is read, so that both sides are read at once.
  """
  side, source = (
    (source, source.source)
    if isinstance(source, given.Side)
    else (None, source)
  )
  bar = tqdm(total=len(source), desc=f'read {name}', unit='row',
             dynamic_ncols=True)  # fmt: skip
  with hosts.in_turn():
    rows = cache.encoded(
      s.folder / 'rows', source, s.tokenizer, template(s),
      image_tokens=s.model.config.image_tokens,
      image_token=s.model.config.image_token,
      diff=s.config.data.diff,
      score_template=s.config.chat.score_template,
      limit=s.model.config.text.max_length,
      check_images=check_images, processes=parallel.cores(), suffix=suffix,
      progress=lambda done, total: bar.update(done - bar.n),
    )  # fmt: skip
  bar.update(len(source) - bar.n)
  bar.close()
  if side:
    source, rows = side.of(rows)
  skip = s.config.data.skip or not brought
  tally.reject(s.folder, name, rows, source.where, skip=skip)
  lengths, prompts = data_rows.lengths(rows), data_rows.prompts(rows)
  hosts.agree('data', {name: provenance.digest(lengths.tolist())})
  if buckets is None:
    buckets, _ = plan.choose_buckets(lengths, shapes, prompts=prompts)
  buckets = plan.with_room(lengths, buckets, prompts=prompts)
  tally.count(s.folder, name, rows, buckets)
  pictures = None
  if s.model.config.image_tokens:
    pictures = images.Pictures(
      source, s.config.image.size, s.config.image.policy, augment=augment,
      seed=s.config.seed, views=looks,
    )  # fmt: skip
    rows = views.repeat(rows, looks)
  digests = functools.cache(
    pictures.name if pictures else lambda i: images.digest(source[i].image)
  )
  return Data(source, rows, pictures, buckets, digests)


def feed(
  s: Setup,
  data: Data,
  train: ConfigDict,
  *,
  extras: Mapping | None = None,
  read: bool = False,
  prepare: Callable[[dict], dict] = dict,
) -> DataFeed:
  """Shuffled batches for as many epochs as the steps need.

  `read` says with them where each answer's path ends.
  """
  sharding.check_batch(train.batch, s.mesh, micro=train.micro)
  steps = plan.steps_per_epoch(
    data_rows.lengths(data.rows), buckets=data.buckets, batch=train.batch,
    prompts=data_rows.prompts(data.rows),
  )  # fmt: skip
  batches = pipeline.batches(
    data.rows, data.images, seed=s.config.seed, buckets=data.buckets,
    batch=train.batch, epochs=math.ceil(train.steps / steps), extras=extras,
    read=read,
    workers=s.config.data.workers, here=hosts.rows(train.batch, s.mesh),
  )  # fmt: skip
  return DataFeed(batches, s.mesh, prepare)


def held_out(
  s: Setup,
  data: Data,
  batch: int,
  *,
  extras: Mapping | None = None,
  read: bool = False,
  prepare: Callable[[dict], dict] = dict,
) -> Callable[[], list[Batch]]:
  """All rows once, in order, on the devices."""

  @functools.cache
  def batches():
    items = pipeline.batches(
      data.rows, data.images, seed=0, buckets=data.buckets, batch=batch,
      epochs=1, shuffle=False, extras=extras, read=read,
      here=hosts.rows(batch, s.mesh),
    )  # fmt: skip
    return [
      to_batch((bucket, prepare(arrays)), s.mesh) for bucket, arrays in items
    ]

  return batches


def fresh(s: Setup) -> Any:
  """New parameters, born where they live."""
  init = functools.partial(models.init, s.model)
  key = jax.random.key(s.config.seed)
  shardings = sharding.specs(jax.eval_shape(init, key), s.mesh)
  return jax.jit(init, out_shardings=shardings)(key)


def load(s: Setup, path: Path) -> Any:
  """The parameters in a folder, with what they are on if they are adapters."""
  return adapt.load(path, abstract_params(s), s.mesh)


def start(s: Setup) -> adapt.Start:
  """What a training makes of the base: as it is, or with adapters on it."""
  c, lora = s.config, s.config.lora
  if not lora.rank:
    return adapt.Start(c.train.frozen_dtype, c.train.rules, c.seed)
  return adapt.Start(
    lora.base, lora.rules, c.seed, lora.rank, lora.alpha, lora.targets
  )


def abstract_params(s: Setup) -> Any:
  like = models.shapes(s.model)
  place = sharding.specs(like, s.mesh)
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    like, place,
  )  # fmt: skip


def sft(s: Setup) -> Callable:
  """The likelihood of the first answer: a caption, or a corrected answer."""

  def loss(params, batch, hyper):
    logps = models.token_logps(s.model, params, batch)
    return sft_loss(logps, batch['roles'])

  return loss


def preference(s: Setup) -> Callable:
  """DDPO; beta and gamma are arguments, so a grid of them is one program."""
  c = s.config.loss

  def loss(params, batch, hyper):
    logps = models.token_logps(s.model, params, batch)
    return preference_loss(
      logps, batch['ref_logps'], batch['roles'],
      beta=hyper['beta'], gamma=hyper['gamma'], normalize=c.normalize,
      label_smoothing=c.label_smoothing, sft_weight=c.sft_weight,
      dpo_weight=c.dpo_weight,
    )  # fmt: skip

  return loss


OBJECTIVES = {'sft': sft, 'preference': preference}
TRACED = ('beta', 'gamma')  # numbers of a loss that are arguments of the step


def program(
  s: Setup, objective: str, train: ConfigDict, params: Any = None
) -> session.Program:
  """The compiled steps; configs that differ in traced numbers share.

  Of `params` only shapes matter; the model's own without adapters by default.
  """
  if objective not in OBJECTIVES:
    raise ValueError(
      f'config.objective = {objective!r}: choose one of {sorted(OBJECTIVES)}'
    )
  static = [objective, train.to_dict(), s.config.loss.to_dict()]
  for part, traced in ((1, ('lr',)), (2, TRACED)):
    static[part] = {k: v for k, v in static[part].items() if k not in traced}
  like = abstract_params(s) if params is None else abstract(params)
  leaves = jax.tree_util.tree_leaves_with_path(like)
  shapes = [(sharding.path_name(p), str(x.dtype), x.shape) for p, x in leaves]
  name = json.dumps([static, shapes], sort_keys=True)
  if name not in s.programs:
    loss = OBJECTIVES[objective](s)
    s.programs[name] = session.program(loss, like, train, s.mesh)
  return s.programs[name]


def overridden(config: ConfigDict, overrides: Mapping) -> ConfigDict:
  """A copy with some keys changed, or left out by None; a wrong one is an
  error."""
  copy = config.copy_and_resolve_references().lock()
  for key, value in overrides.items():
    part = isinstance(value, Mapping | ConfigDict) and key in copy
    copy[key] = overridden(copy[key], value) if part else value
  return copy
