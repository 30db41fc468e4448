"""What a config describes: its world, its rows in buckets, model and losses."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from rlhfv_jax import files, models, provenance, session, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.checkpoint import load_params
from rlhfv_jax.data import chat, images, pipeline, plan, sources
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.feed import DataFeed, to_batch
from rlhfv_jax.objectives.preference import preference_loss
from rlhfv_jax.objectives.sft import sft_loss
from rlhfv_jax.playroom import language
from rlhfv_jax.playroom.scene import World


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
  provenance.claim(folder, config)
  tokenizer = chat.word_tokenizer(language.vocabulary())
  model = config.model.to_dict()
  if len(tokenizer) > model['text']['vocab_size']:
    raise ValueError(
      f'config.model.text.vocab_size = {model["text"]["vocab_size"]} and the '
      f'tokenizer has {len(tokenizer)} tokens: raise it'
    )
  model['image_token'] = chat.image_token_id(tokenizer)
  return Setup(config, folder, mesh, tokenizer, models.build(model), {}, {})


def world(s: Setup) -> World:
  return World(**s.config.world)


def template(s: Setup) -> chat.Template:
  return chat.template(s.config.chat.template)


def read(
  s: Setup,
  path: Path,
  *,
  buckets: list | None = None,
  shapes: int = 1,
  check_images: bool = True,
) -> Data:
  """A file of examples as rows; what cannot be used is counted and listed.

  In these buckets, or in that many chosen from the rows.
  """
  source = sources.read(path)
  bar = tqdm(total=len(source), desc=f'read {path.stem}', unit='row',
             dynamic_ncols=True)  # fmt: skip
  rows = encode_all(
    source, s.tokenizer, template(s),
    image_tokens=s.model.config.image_tokens,
    image_token=s.model.config.image_token,
    diff=s.config.data.diff,
    score_template=s.config.chat.score_template,
    buckets=buckets, check_images=check_images,
    progress=lambda done, total: bar.update(),
  )  # fmt: skip
  bar.close()
  files.write_json(path.with_suffix('.rejected.json'), [
    row._asdict() for row in rows.rejected
  ])  # fmt: skip
  if rows.rejected:
    why = ', '.join(f'{n} {reason}' for reason, n in rows.reasons.items())
    print(f'{path.name}: {len(rows.rejected)} of {len(rows)} rows not used: '
          f'{why}', file=sys.stderr)  # fmt: skip
  if not rows.kept:
    raise ValueError(
      f'{path}: no row can be used, see {path.stem}.rejected.json'
    )
  lengths, prompts = data_rows.lengths(rows), data_rows.prompts(rows)
  if buckets is None:
    buckets, _ = plan.choose_buckets(lengths, shapes, prompts=prompts)
  pictures = None
  if s.model.config.image_tokens:
    pictures = images.Pictures(source, s.config.image.size,
                               s.config.image.policy)  # fmt: skip
  digests = functools.cache(lambda i: images.digest(source[i].image))
  return Data(source, rows, pictures, buckets, digests)


def feed(
  s: Setup,
  data: Data,
  train: ConfigDict,
  *,
  extras: Mapping | None = None,
  prepare: Callable[[dict], dict] = dict,
) -> DataFeed:
  """Shuffled batches for as many epochs as the steps need."""
  sharding.check_batch(train.batch, s.mesh, micro=train.micro)
  steps = plan.steps_per_epoch(
    data_rows.lengths(data.rows), buckets=data.buckets, batch=train.batch,
    prompts=data_rows.prompts(data.rows),
  )  # fmt: skip
  batches = pipeline.batches(
    data.rows, data.images, seed=s.config.seed, buckets=data.buckets,
    batch=train.batch, epochs=math.ceil(train.steps / steps), extras=extras,
    process_index=jax.process_index(), process_count=jax.process_count(),
  )  # fmt: skip
  return DataFeed(batches, s.mesh, prepare)


def held_out(
  s: Setup,
  data: Data,
  batch: int,
  *,
  extras: Mapping | None = None,
  prepare: Callable[[dict], dict] = dict,
) -> Callable[[], list[Batch]]:
  """All rows once, in order, on the devices."""

  @functools.cache
  def batches():
    items = pipeline.batches(
      data.rows, data.images, seed=0, buckets=data.buckets, batch=batch,
      epochs=1, shuffle=False, extras=extras,
      process_index=jax.process_index(), process_count=jax.process_count(),
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
  return load_params(path, abstract_params(s))


def abstract_params(s: Setup) -> Any:
  like = jax.eval_shape(functools.partial(models.init, s.model),
                        jax.random.key(0))  # fmt: skip
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


def program(s: Setup, objective: str, train: ConfigDict) -> session.Program:
  """The compiled steps; configs that differ in traced numbers share."""
  if objective not in OBJECTIVES:
    raise ValueError(
      f'config.objective = {objective!r}: choose one of {sorted(OBJECTIVES)}'
    )
  static = [objective, train.to_dict(), s.config.loss.to_dict()]
  for part, traced in ((1, ('lr',)), (2, ('beta', 'gamma'))):
    static[part] = {k: v for k, v in static[part].items() if k not in traced}
  name = json.dumps(static, sort_keys=True)
  if name not in s.programs:
    loss = OBJECTIVES[objective](s)
    s.programs[name] = session.program(loss, abstract_params(s), train, s.mesh)
  return s.programs[name]


def overridden(config: ConfigDict, overrides: Mapping) -> ConfigDict:
  """A copy with some keys changed; a wrong key is an error."""
  copy = config.copy_and_resolve_references().lock()
  copy.update(overrides)
  return copy
