"""Tokenizers: read, written, fitted to a template; what their ids do.

transformers is imported where a tokenizer is made: it takes half a second, and
a process that encodes with one that was made needs none of it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  pre_tokenizers,
)

from rlhfv_jax import files
from rlhfv_jax.data import sentencepiece, templates
from rlhfv_jax.data.templates import IMAGE, Template

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_PUNCTUATION = '.,:;?!'


class Stops(NamedTuple):
  """What ends an answer that is being written, in a generator's terms.

  Each token of `stop` does at once. A text that several may spell does at its
  last stage: an entry of `spelled` is a token and the stages that it leads to
  from the first, the second and so on. Other tokens lead back to the first.
  """

  stop: tuple[int, ...]
  spelled: tuple[tuple[int, ...], ...] = ()


def load(path: str | Path) -> PreTrainedTokenizerFast:
  """The tokenizer of a folder, in Hugging Face files or a tokenizer.model.

  A tokenizer.json is taken as it stands. (transformers' own Llama class reads
  its words alone and treats white space in its own way.)
  """
  from transformers import PreTrainedTokenizerFast

  folder = _folder(path)
  if (folder / 'tokenizer.json').exists():
    try:
      return PreTrainedTokenizerFast.from_pretrained(str(folder))
    except Exception as error:  # whatever its parsers raise
      raise ValueError(
        f'{folder / "tokenizer.json"} does not read, or the files beside it '
        f'({type(error).__name__}: {str(error)[:200]}): copy them again'
      ) from error
  if (folder / 'tokenizer.model').exists():
    return sentencepiece.read(folder)
  raise ValueError(
    f'{path}: no tokenizer.json and no tokenizer.model in it: copy one from '
    'where the weights are from'
  )


def _folder(path: str | Path) -> Path:
  """A folder here, or what a repository of the hub has of a tokenizer."""
  if Path(path).is_dir():
    return Path(path)
  from huggingface_hub import snapshot_download  # a second to import

  names = ['tokenizer*', 'special_tokens_map.json', 'added_tokens.json']
  try:
    return Path(snapshot_download(str(path), allow_patterns=names))
  except Exception as error:  # whatever a network leads to
    raise ValueError(
      f'{path}: no such folder, and no repository of the hub that can be had '
      f'({" ".join(str(error).split())[:200]})'
    ) from error


def save(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
  """Writes files that any version of transformers takes as they stand."""
  tokenizer.save_pretrained(str(path))
  config = Path(path) / 'tokenizer_config.json'
  told = json.loads(config.read_text('utf-8'))
  told['tokenizer_class'] = 'PreTrainedTokenizerFast'
  files.write_json(config, told)


def fit(
  tokenizer: PreTrainedTokenizerFast, template: Template
) -> PreTrainedTokenizerFast:
  """The tokenizer with its family's own tokens, as the model learned them.

  A base model's tokenizer gets them behind its last id. White space beside one
  belongs to it, so that the word after it begins like the first of a text.
  """
  if not template.tokens:
    return tokenizer
  known = tokenizer.get_vocab()
  lacks = [token for token in template.tokens if token not in known]
  if lacks and len(lacks) < len(template.tokens):
    raise ValueError(
      f'the tokenizer has some of {", ".join(template.tokens)} and lacks '
      f'{", ".join(lacks)}: it is of another model than the template'
    )
  tokenizer = copy.deepcopy(tokenizer)
  tokenizer.add_tokens(
    [
      AddedToken(t, lstrip=True, rstrip=True, special=True, normalized=False)
      for t in template.tokens
    ],
    special_tokens=True,
  )
  return tokenizer


def stop_text(tokenizer: PreTrainedTokenizerBase, template: Template) -> str:
  """What ends an answer."""
  stop = template.stop or tokenizer.eos_token
  if not stop:
    raise ValueError(
      'the tokenizer has no eos_token and the template no stop: give one'
    )
  return stop


def image_token_id(
  tokenizer: PreTrainedTokenizerBase, template: Template | None = None
) -> int:
  """The id of an image feature, past the vocabulary if no token stands for it.

  <im_patch> in Muffin, <image> where transformers' LLaVA added it; LLaVA itself
  had none.
  """
  known = token_id(tokenizer, template.placeholder if template else IMAGE)
  return len(tokenizer) if known is None else known


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
  """The id of a token; None where it has none."""
  id = tokenizer.convert_tokens_to_ids(token)
  known = id is not None and tokenizer.convert_ids_to_tokens(id) == token
  return id if known else None


def reserved(
  tokenizer: PreTrainedTokenizerBase, template: Template
) -> frozenset[str]:
  """What no text of a conversation may hold: special tokens, and its stops."""
  added = tokenizer.added_tokens_decoder.values()
  stops = {template.stop or '', *templates.ends(template)}
  return frozenset(
    {IMAGE, *tokenizer.all_special_tokens, *template.tokens}
    | {token.content for token in added if token.special}
    # White space alone ends a caption, and is in many a question.
    | {stop for stop in stops if stop.strip()}
  )


def end_ids(
  tokenizer: PreTrainedTokenizerBase, template: Template | None = None
) -> tuple[int, ...]:
  """The tokens that say that an answer is over."""
  ids = {tokenizer.eos_token_id}
  ids |= {token_id(tokenizer, end) for end in _ends(template)}
  return tuple(sorted(ids - {None}))


def stops(tokenizer: PreTrainedTokenizerFast, template: Template) -> Stops:
  """The family's: its tokens, and texts in however many tokens."""
  ids = end_ids(tokenizer, template)
  ends = [end for end in _ends(template) if token_id(tokenizer, end) is None]
  if not ends:
    return Stops(ids)
  # A stage is a beginning of an end, the last one a whole: behind all others.
  begun = sorted({end[:i] for end in ends for i in range(len(end))}, key=len)

  def stage(text: str) -> int:
    if any(end in text for end in ends):
      return len(begun)
    return max(i for i, part in enumerate(begun) if text.endswith(part))

  spelled = tuple(
    (id, *stages)
    for id, text in enumerate(_texts(tokenizer))
    if any(stages := [stage(part + text) for part in begun])
  )
  whole = {id for id, first, *_ in spelled if first == len(begun)}
  return Stops(tuple(sorted({*ids, *whole})), spelled)


def _texts(tokenizer: PreTrainedTokenizerFast) -> list[str]:
  """What each token adds to a text, its space too; special ones add nothing."""
  decode = tokenizer.backend_tokenizer.decode_batch
  ids = range(len(tokenizer))
  word = next(i for i in ids if decode([[i]])[0].isalpha())
  begin = len(decode([[word]])[0])
  return [text[begin:] for text in decode([[word, id] for id in ids])]


def _ends(template: Template | None) -> tuple[str, ...]:
  return templates.ends(template) if template else ()


def decode(
  tokenizer: PreTrainedTokenizerBase,
  ids: Sequence[int],
  template: Template | None = None,
) -> str:
  """The answer in tokens: up to the first end, without special ones."""
  ids = np.asarray(ids)
  ends = np.flatnonzero(np.isin(ids, end_ids(tokenizer, template)))
  ids = ids[: ends[0]] if len(ends) else ids
  inside = ids[(ids >= 0) & (ids < len(tokenizer))].tolist()
  text = tokenizer.decode(inside, skip_special_tokens=True).strip()
  return templates.answer(text, template) if template else text


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
  """A token for each word and each mark, for a small language known whole.

  <pad> is 0. Decoding puts one space between words and none before a mark, so
  text written that way comes back to the character.
  """
  from transformers import PreTrainedTokenizerFast

  words = list(dict.fromkeys(['user', 'assistant', *_PUNCTUATION, *words]))
  special = ['<pad>', '<bos>', '<end>', IMAGE, '<unk>']
  vocabulary = {word: i for i, word in enumerate(special + words)}
  backend = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
  backend.pre_tokenizer = pre_tokenizers.Split(
    Regex(r"\w+(?:[-']\w+)*|[^\w\s]"), 'removed', invert=True
  )
  for word in words:
    if backend.pre_tokenizer.pre_tokenize_str(word) != [(word, (0, len(word)))]:
      raise ValueError(f'{word!r} is not one word or one mark: split it')
  backend.decoder = decoders.Sequence(
    [
      decoders.WordPiece(prefix='##', cleanup=False),
      decoders.Fuse(),
      *[decoders.Replace(f' {mark}', mark) for mark in _PUNCTUATION],
    ]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=backend,
    pad_token='<pad>',
    bos_token='<bos>',
    eos_token='<end>',
    unk_token='<unk>',
    extra_special_tokens=[IMAGE],
    clean_up_tokenization_spaces=False,
  )
