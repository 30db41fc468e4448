"""A folder with a model in it: what an import leaves, or what a run left.

params/       as Orbax keeps them
model.json    the numbers of the model, its template, where it comes from
tokenizer/    as it came with the weights, where it did
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from rlhfv_jax import files, sharding
from rlhfv_jax.checkpoint import load_params, save_params, stored
from rlhfv_jax.data import tokenizer as tokenizers
from rlhfv_jax.data.templates import template
from rlhfv_jax.models import lora
from rlhfv_jax.models.score import HEAD
from rlhfv_jax.playroom import language
from rlhfv_jax.train import adapt

NOTE = 'model.json'
_TOKENIZER = (
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
)


@dataclasses.dataclass(frozen=True)
class About:
  """What is known of a model beside its parameters."""

  model: Mapping[str, Any]
  template: str
  policy: str
  preset: str = ''
  sources: Sequence[Mapping[str, Any]] = ()  # from, revision, format
  dtype: str = ''  # as in the files unless one was asked for
  tokenizer: str = ''  # a folder, or 'playroom'
  data: Sequence[str] = ()

  @property
  def base(self) -> str:
    """Where its weights were first found."""
    return self.sources[0]['from'] if self.sources else ''


def write(
  folder: Path, params: Any, about: About, *, sources: Sequence[Path]
) -> None:
  """The parameters, and the tokenizer of the first source that has one."""
  save_params(folder / 'params', params)
  for source in sources:
    found = [source / name for name in _TOKENIZER if (source / name).is_file()]
    if found and jax.process_index() == 0:
      (folder / 'tokenizer').mkdir(exist_ok=True)
      for path in found:
        shutil.copyfile(path, folder / 'tokenizer' / path.name)
      about = dataclasses.replace(about, tokenizer='tokenizer')
      break
  # Last: it says that all the rest is there.
  if jax.process_index() == 0:
    files.write_json(folder / NOTE, dataclasses.asdict(about))


def about(folder: Path) -> About:
  """What is known of the model in a folder, or in a part of a run."""
  for at in (folder, *folder.absolute().parents[:2]):
    if (at / NOTE).exists():
      found = About(**files.read_json(at / NOTE))
      where = str(at / found.tokenizer) if found.tokenizer else ''
      return dataclasses.replace(found, tokenizer=where)
    if (at / 'config.json').exists():
      said = files.read_json(at / 'config.json')
      if 'config' in said:
        return _of_run(said['config'])
  raise ValueError(
    f'{folder} has neither {NOTE}, as an import leaves it, nor the config.json '
    'of a run: name the folder that `convert import` or a training wrote to'
  )


def _of_run(config):
  """What the config of a run says, and what it began with."""
  began = about(Path(config['init'])) if config.get('init') else None
  tokenizer = began.tokenizer if began else 'playroom'
  model = dict(config['model'])
  if model.get('image_token') is None and model.get('vision') is not None:
    style = template(config['chat']['template'])
    model['image_token'] = tokenizers.image_token_id(
      tokenizers.fit(load_tokenizer(tokenizer), style), style
    )
  return About(
    model=model,
    template=config['chat']['template'],
    policy=config['image']['policy'],
    preset=began.preset if began else '',
    sources=began.sources if began else (),
    tokenizer=tokenizer,
    data=(config['data'].get('source') or 'playroom',),
  )


def load_tokenizer(where: str) -> Any:
  """The tokenizer of a model; None where there was none."""
  if where == 'playroom':
    return tokenizers.word_tokenizer(language.vocabulary())
  return tokenizers.load(where) if where else None


def read(folder: Path, mesh: Mesh) -> dict[str, Any]:
  """The parameters in a folder as they were saved, with their adapters.

  Adapters come with the base as it was before it was rounded for them.
  """
  if not (folder / 'params').is_dir():
    raise ValueError(
      f'{folder} has no params/: the import or the training that writes there '
      'is not finished, run it again'
    )
  return unflatten_dict(_flat(folder / 'params', mesh), sep='/')


def under(folder: Path) -> str:
  """Where others find what the adapters in a folder are on; '' if nowhere.

  It is there as it was imported: not after a training, nor with adapters of its
  own put in.
  """
  note = folder / adapt.NOTE
  if not note.exists():
    return about(folder).base
  on = (folder / files.read_json(note)['base']).parent
  as_it_came = (on / NOTE).exists() and not lora.adapters(stored(on / 'params'))
  return about(on).base if as_it_came else ''


def beside(folder: Path) -> list[str]:
  """What a training of adapters changed beside them and a score head."""
  if not (folder / adapt.NOTE).exists():
    return []
  trained = flatten_dict(stored(folder / 'params'), sep='/')
  return [
    name for name, x in trained.items()
    if x is not None
    and name.rpartition('/')[2] not in lora.LEAVES
    and not name.startswith(HEAD)
  ]  # fmt: skip


def _flat(path: Path, mesh: Mesh) -> dict[str, Any]:
  like = stored(path)
  like = jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    like, sharding.specs(like, mesh),
  )  # fmt: skip
  note = path.parent / adapt.NOTE
  if not note.exists():
    return flatten_dict(load_params(path, like), sep='/')
  said = files.read_json(note)
  base = _flat(Path(path.parent / said['base']).resolve(), mesh)
  base = flatten_dict(lora.merge(unflatten_dict(base, sep='/')), sep='/')
  trained = flatten_dict(load_params(path, like), sep='/')
  trained = {name: x for name, x in trained.items() if x is not None}
  whole = {
    name: x for name, x in trained.items()
    if x.dtype != np.int8 and not name.endswith('kernel_scale')
  }  # fmt: skip
  start = said['start']
  for name, a in trained.items():
    if name.endswith('/lora_a'):
      scale = np.full(a.shape[:-2], start['alpha'] / start['rank'], np.float32)
      whole.setdefault(name.replace('/lora_a', '/lora_scale'), scale)
  return base | whole
