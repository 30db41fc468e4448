"""The same pairs for everybody: as rows of ours, as two rows, as texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from launch.speed.sizes import Size

SPECIAL = ('<pad>', '<s>', '</s>')  # the first words


class Pairs(NamedTuple):
  """Question and answers are words; the picture stands before the question."""

  images: np.ndarray  # u8[B,H,W,3]
  questions: np.ndarray  # i32[B,Q]
  answers: np.ndarray  # i32[B,2,R]


def draw(size: Size, seed: int = 0) -> Pairs:
  """Every row is full: nobody loses time to padding."""
  rng, c = np.random.default_rng(seed), size.config
  last = min(c.image_token, c.text.vocab_size - 1)
  words = lambda *shape: rng.integers(len(SPECIAL), last, shape, np.int32)
  side = c.vision.image_size
  coarse = rng.integers(0, 256, (size.pairs, 9, 9, 3), np.uint8)
  smooth = [Image.fromarray(x).resize((side, side)) for x in coarse]
  return Pairs(
    np.stack([np.asarray(x) for x in smooth]),
    words(size.pairs, size.trunk - c.image_tokens),
    words(size.pairs, 2, size.answer),
  )


def trunks(pairs: Pairs, size: Size) -> dict[str, np.ndarray]:
  """A pair a row, in the bucket (trunk, answer, 2)."""
  trunk, answer = size.trunk, size.answer
  tokens = np.concatenate(
    [_seen(pairs, size), *pairs.answers.swapaxes(0, 1)], axis=1
  )
  roles = np.zeros((size.pairs, 2, tokens.shape[1]), np.int8)
  for c in range(2):
    start = trunk + c * answer
    roles[:, c, start : start + answer] = 1
  lengths = np.full((size.pairs, 3), [trunk, answer, answer], np.int32)
  return {
    'tokens': tokens, 'roles': roles, 'lengths': lengths,
    'images': pairs.images,
  }  # fmt: skip


def rows(pairs: Pairs, size: Size) -> dict[str, np.ndarray]:
  """An answer a row, chosen and rejected in turn, the picture with both."""
  twice = np.repeat(_seen(pairs, size), 2, axis=0)
  answers = pairs.answers.reshape(2 * size.pairs, -1)
  tokens = np.concatenate([twice, answers], axis=1)
  roles = np.zeros((len(tokens), 1, tokens.shape[1]), np.int8)
  roles[:, :, size.trunk :] = 1
  lengths = np.full((len(tokens), 2), [tokens.shape[1], 0], np.int32)
  return {
    'tokens': tokens, 'roles': roles, 'lengths': lengths,
    'images': np.repeat(pairs.images, 2, axis=0),
  }  # fmt: skip


def _seen(pairs, size):
  """Placeholders of the picture, then the question."""
  c = size.config
  spaces = np.full((size.pairs, c.image_tokens), c.image_token, np.int32)
  return np.concatenate([spaces, pairs.questions], axis=1)


def tokenizer(size: Size) -> PreTrainedTokenizerFast:
  """A word an id; the picture's own id is added by whoever exports."""
  last = size.config.image_token
  names = [*SPECIAL, *(f'w{i}' for i in range(len(SPECIAL), last))]
  words = Tokenizer(
    models.WordLevel(dict(zip(names, range(last), strict=True)))
  )
  words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token='<pad>', eos_token='</s>'
  )


def texts(pairs: Pairs) -> list[dict[str, str]]:
  """What that tokenizer reads as the same ids."""
  said = lambda ids: ' '.join(f'w{i}' for i in ids)
  return [
    {'prompt': f'<image> {said(question)}', 'chosen': said(chosen),
     'rejected': said(rejected)}
    for question, (chosen, rejected) in zip(
      pairs.questions, pairs.answers, strict=True)
  ]  # fmt: skip
