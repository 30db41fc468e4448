"""The sheet on which people mark what is wrong: one page, blind.

It holds all models' answers in an order that does not tell whose they are;
equal answers to a question stand in it once.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked
from rlhfv_jax.benchmarks.mhumaneval import FORMAT, TYPES, mark, questions

PAGE = Path(__file__).with_name('mhumaneval.html')
_KINDS = {'.png': 'png', '.webp': 'webp'}


def sample(
  sources: Mapping[str, Sequence[Mapping[str, Any]]],
  path: str | Path,
  *,
  n: Mapping[str, int],
  seed: int = 0,
) -> None:
  """Writes the questions to be asked: n[name] of each source, ids prefixed."""
  rng = random.Random(seed)
  rows = []
  for name, given in sources.items():
    count = n.get(name, len(given))
    if count > len(given):
      raise ValueError(f'{name}: {count} questions of {len(given)}')
    for i in sorted(rng.sample(range(len(given)), count)):
      row = {'id': f'{name}/{given[i]["id"]}', 'question': given[i]['question']}
      if 'image' in given[i]:
        row['image'] = base64.b64encode(given[i]['image']).decode()
      elif 'image_path' in given[i]:
        row['image_file'] = Path(given[i]['image_path']).name
      rows.append(row)
  files.write_lines(path, rows)


def export(
  answers: Mapping[str, Sequence[Mapping[str, Any]]],
  path: str | Path,
  out: str | Path,
  *,
  images: str | Path | None = None,
  seed: int = 0,
) -> int:
  """Writes the sheet for {model: answers}; returns how many answers it has."""
  asks = questions(path, images=images)
  ids = [row['id'] for row in asks]
  said: dict[str, dict[str, str]] = {i: {} for i in ids}
  for given in answers.values():
    for i, text in zip(ids, asked.texts(given, ids, path), strict=True):
      said[i][mark(i, text)] = text
  rng = random.Random(seed)
  items, pictures = [], {}
  for row in asks:
    pictures[row['id']] = _address(row)
    marked = sorted(said[row['id']].items())
    rng.shuffle(marked)
    items += [
      {'mark': m, 'question': row['question'], 'answer': text,
       'picture': row['id']}
      for m, text in marked
    ]  # fmt: skip
  # Answers to one question apart: people compare what stands together.
  rng.shuffle(items)
  data = {'format': FORMAT, 'types': TYPES, 'items': items,
          'pictures': pictures}  # fmt: skip
  # In a script element, only "</" could end it early.
  text = json.dumps(data).replace('</', '<\\/')
  page = PAGE.read_text('utf-8').replace('{{data}}', text)
  files.write_text(out, page)
  return len(items)


def _address(row: Mapping[str, Any]) -> str:
  """A picture as the address of an <img>; empty if the question has none."""
  if 'image' in row:
    encoded, kind = row['image'], 'jpeg'
  elif 'image_path' in row:
    encoded = Path(row['image_path']).read_bytes()
    kind = _KINDS.get(Path(row['image_path']).suffix.lower(), 'jpeg')
  else:
    return ''
  return f'data:image/{kind};base64,{base64.b64encode(encoded).decode()}'
