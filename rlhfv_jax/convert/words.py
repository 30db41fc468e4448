"""The table of words: rows that one side has and the other has not.

transformers looks a placeholder up before it puts a feature in its place, so
its tables reach past the placeholder, and to a multiple of 64.
"""

import re
from collections.abc import Sequence

import numpy as np

from rlhfv_jax.models.config import VLMConfig

PADDING = 64
LEAVES = (
  'language_model/embed_tokens/embedding',
  'language_model/lm_head/kernel',
)


def placeholder(config: VLMConfig) -> int | None:
  """The id of an image feature where words and it share one table."""
  size, token = config.text.vocab_size, config.image_token
  return token if token is None or 0 <= token < size else size


def padded(config: VLMConfig) -> int:
  """Rows of the table in transformers' files."""
  size, token = config.text.vocab_size, placeholder(config)
  return size if token is None or token < size else -(-(size + 1) // 64) * 64


def misfit(have: int, want: int, path: str, grown: Sequence[str]) -> str | None:
  """Why a table of `have` rows is not one of `want`; None where it can be.

  Padding is cut off; a few words are added only to the leaves that a pattern
  of `grown` matches.
  """
  if have == want or (0 < have - want <= PADDING and have % PADDING == 0):
    return None
  few = 0 < want - have <= PADDING
  if few and any(re.fullmatch(p, path) for p in grown):
    return None
  way = ': is it of another family, or text.vocab_size wrong?'
  if few:
    way = f'; fresh="{path}" adds the {want - have} others as the mean word'
  return f'has {have} words, and the model wants {want}{way}'


def resize(table: np.ndarray, rows: int) -> np.ndarray:
  """[V,D] -> [rows,D]. New rows are the mean, whose logit never is the largest:
  a decoder that argmaxes says what it said before.
  """
  more = rows - len(table)
  if more <= 0:
    return table[:rows]
  mean = table.mean(0, dtype=np.float32, keepdims=True).astype(table.dtype)
  return np.concatenate([table, np.repeat(mean, more, 0)])
