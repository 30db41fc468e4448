"""What a run is given: weights from elsewhere, and anybody's pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.convert import workdir
from rlhfv_jax.data import sources, tokenizer, views
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.rows import RowError
from rlhfv_jax.data.templates import Template
from rlhfv_jax.playroom import language
from rlhfv_jax.stages.provenance import flat

# How a model is computed, not which one it is.
_MANNER = ('dtype', 'remat', 'attention', 'image_token')


def words(init: str, model: Mapping[str, Any], template: Template) -> Any:
  """The tokenizer of the weights, or the playroom's; is it the same model?"""
  if not init:
    return tokenizer.word_tokenizer(language.vocabulary())
  about = workdir.about(Path(init))
  here, there = flat(model), flat(about.model)
  differ = [
    f'{k} is {there[k]} there and {here[k]} here'
    for k in sorted(here.keys() & there.keys())
    if k.split('.')[-1] not in _MANNER and here[k] != there[k]
  ]
  if differ:
    raise ValueError(
      f'--config.init={init} holds another model than the config describes: '
      f'{"; ".join(differ[:5])}. Name its preset, as in configs/ddpo.py:'
      f'{about.preset or "PRESET"}'
    )
  found = workdir.load_tokenizer(about.tokenizer)
  if found is None:
    raise ValueError(
      f'--config.init={init} has no tokenizer/: copy its tokenizer.json or '
      'tokenizer.model there'
    )
  return tokenizer.fit(found, template)


class Part(Sequence):
  """Some rows of a source, read when they are asked for."""

  def __init__(self, source: Sequence[Example], rows: Sequence[int]):
    self.source, self.rows = source, rows

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: int) -> Example:
    return self.source[self.rows[index]]

  def where(self, index: int) -> str:
    return self.source.where(self.rows[index])

  def files(self) -> list[Path]:
    return self.source.files()


def pairs(spec: str, *, dev: float) -> dict[str, Part]:
  """'kind:path' as pairs to train on and, a share of them, to look at.

  A picture is on one side, whatever is asked about it and wherever it stands.
  At least one is looked at, of however few.
  """
  if not 0 < dev < 1:
    raise ValueError(f'config.data.dev = {dev}: a share between 0 and 1')
  source = sources.open(spec)
  sides = {'train': [], 'dev': []}
  drawn = [_draw(source, row) for row in range(len(source))]
  least = min(drawn, default=0.0)
  for row, draw in enumerate(drawn):
    sides['dev' if draw < dev or draw <= least else 'train'].append(row)
  for side, rows in sides.items():
    if not rows:
      raise ValueError(
        f'{spec}: of {len(source)} rows none is left for {side}: change '
        f'config.data.dev = {dev}, or bring more'
      )
  return {side: Part(source, rows) for side, rows in sides.items()}


def _draw(source: Sequence[Example], row: int) -> float:
  """A number in [0, 1) that the picture of a row decides, or its name."""
  try:
    example = source[row]
    name = views.digest(example.image) or example.id
  except RowError:  # left out and listed when the rows are read
    name = str(row)
  drawn = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(drawn, 'big') / 2**64
