"""What a run is given: weights from elsewhere, and anybody's pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhfv_jax.convert import workdir
from rlhfv_jax.data import sides, sources, tokenizer
from rlhfv_jax.data.example import Example
from rlhfv_jax.data.rows import Rows
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


class Side(NamedTuple):
  """What is trained on or looked at, known when the rows have been read."""

  spec: str
  source: Sequence[Example]
  name: str
  dev: float

  def of(self, rows: Rows) -> tuple[sides.Part, Rows]:
    """This side of the source and of its rows."""
    numbers = np.flatnonzero(
      sides.held_out(rows, self.dev) == (self.name == 'dev')
    )
    if not len(numbers):
      raise ValueError(
        f'{self.spec}: of {len(rows)} rows none is left for {self.name}: '
        f'change config.data.dev = {self.dev}, or bring more'
      )
    return sides.Part(self.source, numbers), sides.some(rows, numbers)


def pairs(spec: str, *, dev: float) -> dict[str, Side]:
  """'kind:path' as pairs to train on and, a share of them, to look at."""
  if not 0 < dev < 1:
    raise ValueError(f'config.data.dev = {dev}: a share between 0 and 1')
  source = sources.open(spec)
  return {name: Side(spec, source, name, dev) for name in ('train', 'dev')}
