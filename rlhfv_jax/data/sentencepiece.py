"""SentencePiece: a folder's tokenizer.model as a tokenizer that has offsets.

Only what Llama's tokenizers are: byte pairs with bytes to fall back on, and no
normalisation. The file is protobuf; four of its fields are read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
)

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerFast

_BPE = 2
_UNKNOWN, _CONTROL, _DEFINED = 2, 3, 4
_SPECIAL = ('unk_token', 'bos_token', 'eos_token', 'pad_token')


class Model(NamedTuple):
  """What a tokenizer.model says: piece i has id i."""

  pieces: list[str]
  scores: list[float]  # the pair whose piece scores highest is merged first
  types: list[int]


def read(folder: str | Path) -> PreTrainedTokenizerFast:
  """The tokenizer of a folder that has a tokenizer.model.

  `legacy`, which is what a config that does not name it means, begins every
  stretch of text between special tokens with a space of its own, as LLaMA-1's
  tokenizer did; a later one does so only at the start of the text.
  """
  from transformers import PreTrainedTokenizerFast

  folder = Path(folder)
  path = folder / 'tokenizer.model'
  model = parse(path.read_bytes(), path)
  config = _json(folder, 'tokenizer_config.json')
  legacy = config.get('legacy') in (None, True)
  backend = _backend(model, legacy=legacy)
  for id, token in sorted(_added(folder, config).items()):
    backend.add_tokens([token])
    if (found := backend.token_to_id(token.content)) != id:
      raise ValueError(
        f'{folder}: added token {token.content!r} has id {id} there and comes '
        f'to {found} behind the {len(model.pieces)} pieces of {path.name}: the '
        'files are of different models'
      )
  names = _special(model, config, _json(folder, 'special_tokens_map.json'))
  return PreTrainedTokenizerFast(
    tokenizer_object=backend,
    clean_up_tokenization_spaces=False,
    chat_template=config.get('chat_template'),
    **{k: v for k, v in names.items() if backend.token_to_id(v) is not None},
  )


def _backend(model: Model, *, legacy: bool) -> Tokenizer:
  known = {piece: id for id, piece in enumerate(model.pieces)}
  unknown = model.pieces[model.types.index(_UNKNOWN)]
  backend = Tokenizer(
    models.BPE(
      known,
      _merges(model, known),
      unk_token=unknown,
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  if legacy:
    backend.normalizer = normalizers.Sequence(
      [normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')]
    )
  else:
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
      prepend_scheme='first', split=False
    )
  backend.decoder = decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(' ', 1, 0),
    ]
  )
  for piece, kind in zip(model.pieces, model.types, strict=True):
    if kind in (_UNKNOWN, _CONTROL, _DEFINED):
      special = kind != _DEFINED
      backend.add_tokens([AddedToken(piece, special=special, normalized=False)])
  return backend


def _merges(model: Model, known: dict[str, int]) -> list[tuple[str, str]]:
  """Every way to make a piece of two, in the order they are preferred."""
  found = []
  for piece, id in known.items():
    for cut in range(1, len(piece)):
      left, right = piece[:cut], piece[cut:]
      if left in known and right in known:
        rank = (-model.scores[id], known[left], known[right])
        found.append((rank, (left, right)))
  return [pair for _, pair in sorted(found)]


def _special(model: Model, *configs: dict[str, Any]) -> dict[str, str]:
  """The names of the tokens with a role; some configs leave them empty."""
  found = {}
  for name in _SPECIAL:
    for config in configs:
      token = config.get(name)
      token = token['content'] if isinstance(token, dict) else token
      found.setdefault(name, token) if token else None
  found.setdefault('unk_token', model.pieces[model.types.index(_UNKNOWN)])
  for name, usual in (('bos_token', '<s>'), ('eos_token', '</s>')):
    found.setdefault(name, usual)
  return found


def _added(folder: Path, config: dict[str, Any]) -> dict[int, AddedToken]:
  """Tokens that stand beside the model's, by id."""
  found = {
    id: AddedToken(token, special=True, normalized=False)
    for token, id in _json(folder, 'added_tokens.json').items()
  }
  for id, token in config.get('added_tokens_decoder', {}).items():
    found[int(id)] = AddedToken(**token)
  return found


def _json(folder: Path, name: str) -> dict[str, Any]:
  path = folder / name
  if not path.exists():
    return {}
  try:
    return json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error}): copy it again') from error


def parse(data: bytes, path: str | Path) -> Model:
  """The bytes of a tokenizer.model; `path` is named where they are none."""
  try:
    fields = list(_fields(data))
    pieces = [dict(_fields(value)) for number, value in fields if number == 1]
    trainer = dict(_fields(dict(fields).get(2, b'')))
    normalizer = dict(_fields(dict(fields).get(3, b'')))
    model = Model(
      pieces=[piece[1].decode() for piece in pieces],
      scores=[
        struct.unpack('<f', piece.get(2, bytes(4)))[0] for piece in pieces
      ],
      types=[piece.get(3, 1) for piece in pieces],
    )
    model.types.index(_UNKNOWN)
  except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
    raise ValueError(
      f'{path}: {len(data)} bytes that are no SentencePiece model, or not a '
      'whole one: copy it again, or put a tokenizer.json beside it'
    ) from error
  if trainer.get(3, 1) != _BPE or normalizer.get(2):
    raise ValueError(
      f'{path}: not a tokenizer as Llama has it (byte pairs, no normalisation):'
      ' put a tokenizer.json beside it'
    )
  return model


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
  """The fields of a protobuf message: number and value, in order."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    kind = key & 7
    if kind == 0:
      value, at = _varint(data, at)
    else:
      size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
      value, at = data[at : at + size], at + size
      if at > len(data):
        raise ValueError('cut short')
    yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    value |= (data[at] & 127) << shift
    at, shift = at + 1, shift + 7
    if data[at - 1] < 128:
      return value, at
