"""Weights out: to transformers, to Muffin's names, to PEFT's adapters."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from transformers import PreTrainedTokenizerBase

from rlhfv_jax import files
from rlhfv_jax.convert import (
  adapters,
  beside,
  configs,
  reward_head,
  tables,
  words,
)
from rlhfv_jax.convert.card import card
from rlhfv_jax.convert.save import Entry, save
from rlhfv_jax.data import tokenizer as tokenizers
from rlhfv_jax.models.config import VLMConfig
from rlhfv_jax.models.score import HEAD

FORMATS = ('hf', 'muffin', 'peft')


def export_weights(
  params: Mapping[str, Any],
  model_config: Mapping[str, Any] | VLMConfig,
  path: str | Path,
  *,
  format: str = 'hf',
  tokenizer: PreTrainedTokenizerBase | None = None,
  chat: str = 'vicuna_v1',
  policy: str = 'pad',
  base: str = '',
  preset: str = '',
  data: Sequence[str] = (),
  licence: str = '',
  dtype: str | None = None,
  shard_bytes: int = 2 * 10**9,
) -> None:
  """A folder that others read; its weights have the dtype of ours unless given.

  'hf' is transformers' LLaVA, or its Llama where there is no tower; 'muffin'
  has the names of the original; 'peft' is adapters alone for the `base` on the
  hub, which elsewhere are merged into their kernels, and beside them the head
  of a model that judges. `chat` and `policy` are the template and the image
  policy that go with the tokenizer; base, preset, data and licence are what the
  card tells.
  """
  config = model_config
  if not isinstance(config, VLMConfig):
    config = VLMConfig.of(config)
  flat = flatten_dict(dict(params), sep='/')
  _check(flat, config, format, base)
  with _folder(path) as folder:
    rules = tables.FORMATS[_names(config, format)]
    entries = _entries(flat, config, rules, format, dtype)
    stem = 'adapter_model' if format == 'peft' else 'model'
    save(folder, stem, flat, entries, config, shard_bytes=shard_bytes)
    if format == 'peft':
      settings = adapters.settings(flat, rules, base)
      files.write_json(folder / adapters.SETTINGS, settings)
      reward_head.write(folder, flat)
    else:
      described = _described(config, format, entries)
      files.write_json(folder / 'config.json', described)
      if tokenizer is not None and format == 'hf':
        beside.write(folder, config, tokenizer, chat=chat, policy=policy)
      elif tokenizer is not None:
        tokenizers.save(tokenizer, folder)
    told = card(config, format=format, preset=preset, base=base, data=data,
                licence=licence)  # fmt: skip
    files.write_text(folder / 'README.md', told)


@contextlib.contextmanager
def _folder(path):
  """The folder to fill; other processes than the first fill one of no use."""
  if jax.process_index() == 0:
    with files.atomic_folder(path) as folder:
      yield folder
  else:
    with tempfile.TemporaryDirectory() as folder:
      yield Path(folder)


def _check(flat, config, format, base):
  """What cannot be exported in this form, and the way out."""
  tower = config.vision.kind if config.vision is not None else None
  if format not in FORMATS:
    raise ValueError(f'format {format!r}: one of {", ".join(FORMATS)}')
  if format == 'hf' and tower == 'beit3':
    raise ValueError(
      'transformers has no class for a BEiT-3 that is read by queries: export '
      "with format 'muffin', the names of the original"
    )
  if format == 'muffin' and tower != 'beit3':
    raise ValueError(
      f"format 'muffin' is for BEiT-3, and this model has {tower or 'no'} "
      "tower: export with format 'hf'"
    )
  if format == 'peft':
    _check_adapters(flat, base)
  elif f'{HEAD}/weight' in flat:
    raise ValueError(
      f'these parameters judge, and format {format!r} has no place for their '
      f"{HEAD}: with format 'peft' it stands beside their adapters"
    )
  elif rounded := [p for p in flat if p.endswith('kernel_scale')]:
    raise ValueError(
      f'{rounded[0].removesuffix("_scale")} is in eight bits, and a whole '
      "model is exported from its own weights: use format 'peft', or attach "
      'the adapters to the base as it was imported'
    )


def _check_adapters(flat, base):
  if not any(p.endswith('/lora_a') for p in flat):
    raise ValueError(
      "format 'peft' is for adapters, and these parameters have none: export "
      "with format 'hf'"
    )
  if not re.fullmatch(r'[\w.-]+/[\w.-]+', base) or Path(base).exists():
    raise ValueError(
      f'adapters are of no use without their base, and base is {base!r}: give '
      'its ORG/NAME on the hub, where whoever loads them finds it too; export '
      'it first if it is nowhere'
    )


def _names(config, format):
  """The table of a format that we write; of several, what most can read."""
  if config.vision is None:
    return 'llama'
  if config.vision.kind == 'beit3':
    return 'muffin'
  return 'hf5_state' if format == 'peft' else 'hf'


def _entries(flat, config, rules, format, dtype):
  """Every tensor that is written, by its name."""
  adapted = {p for p in flat if '/lora_' in p}
  wanted = flat.keys() - adapted
  if format == 'peft':
    wanted = {p for p in adapted if not p.endswith('/lora_scale')}
  table = tables.slots({p: flat[p].shape for p in wanted}, rules, config)
  if strange := wanted - {slot.path for slot in table.values()}:
    raise ValueError(
      f'{sorted(strange)[0]} has no name in format {format!r}: leave it out of '
      'what is exported'
    )
  entries = {}
  for name, slot in table.items():
    own = flat[slot.path].dtype
    shape = slot.shape
    if format == 'hf' and slot.path in words.LEAVES:
      shape = (words.padded(config), *shape[1:])
    name = adapters.PREFIX + name if format == 'peft' else name
    entries[name] = Entry(slot, shape, jnp.dtype(dtype or own))
  if format == 'hf' and config.vision is not None:
    entries |= _full(flat, config, rules, dtype)
  return entries


def _full(flat, config, rules, dtype):
  """Tensors that transformers has and we have not, which change nothing."""
  found = {}
  norm = tables.their_name('vision_tower/post_layernorm/x', rules)
  for leaf, full in (('weight', 'ones'), ('bias', 'zeros')):
    like = flat[f'vision_tower/pre_layrnorm/{leaf}']
    name = f'{norm.removesuffix(".x")}.{leaf}'
    found[name] = Entry(None, like.shape, jnp.dtype(dtype or like.dtype), full)
  width = config.text.width
  for name, full in tables.implied(rules, config).items():
    if full != 'words':
      like = jnp.dtype(dtype or flat['mm_projector/kernel'].dtype)
      shape = (width, width) if full == 'eye' else (width,)
      found[name] = Entry(None, shape, like, full)
  return found


def _described(config, format, entries):
  """config.json, with the dtype that holds all of the tensors."""
  if format == 'muffin':
    said = configs.muffin(config)
  elif config.vision is None:
    said = configs.llama(config.text)
  else:
    said = configs.llava(config)
  widest = np.result_type(*(entry.dtype for entry in entries.values()))
  return said | {'torch_dtype': widest.name}
