"""LLaVA-RLHF's preferences: two replies to the last turn, and the better one.

{id, image, conversations, output_1, output_2, preference: 1 | 2,
hallucination}. The last reply of `conversations` is a placeholder. Captions of
the pictures, in image_to_caption.json, are facts for the reward model.
"""

from collections.abc import Iterable
from pathlib import Path

from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.formats import llava
from rlhfv_jax.data.messages import SHAREGPT
from rlhfv_jax.data.storage.lazy import Source

OUTPUTS = ('output_1', 'output_2')


def read(
  path: str | Path,
  *,
  images: str | Path | None = None,
  facts: str | Path | None = None,
) -> Source:
  """A JSON file, or a folder with one, its pictures and its captions."""
  return llava.open_rows(path, FORMAT, images=images, facts=facts)


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A .json file, or one in a folder, and the pictures beside it."""
  export.records(llava.rows_file(path), examples, FORMAT, column='image')


def parse(row: dict, index: int) -> Example:
  better = pairs.entry(row, 'preference', 'the row')
  if better not in (1, 2):
    raise RowError('preference', f'{better!r}: 1 or 2 is the better reply')
  _, turns = messages.read(row.get('conversations'), SHAREGPT, 'conversations')
  if turns and turns[-1][0] == 'assistant':
    turns = turns[:-1]
  first, second = (
    pairs.entry(pairs.entry(row, name, 'the row'), 'value', name)
    for name in OUTPUTS
  )
  answers = (first, second) if better == 1 else (second, first)
  return llava.example(row, index, turns, answers, {'preference': better})


def form(example: Example, index: int) -> dict:
  better = 2 if example.extra.get('preference') == 2 else 1
  replies = pairs.answers(example)[:: 1 if better == 1 else -1]
  row = llava.row_of(example, index, (*example.turns, ('assistant', '')))
  told = messages.write([('assistant', text) for text in replies], SHAREGPT)
  return row | dict(zip(OUTPUTS, told, strict=True)) | {'preference': better}


FORMAT = lossless.Format(
  'llava_rlhf',
  ('id', 'image', 'conversations', 'captions', 'preference', *OUTPUTS),
  parse,
  form,
)
