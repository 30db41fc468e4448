"""The numbers that fix a model, read from any mapping and checked early."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from rlhfv_jax.models.sight import WAYS

_KINDS = ('beit3', 'clip')
_CONNECTORS = ('linear', 'mlp2x')
_DTYPES = ('float32', 'bfloat16', 'float64')
_REMAT = ('none', 'dots', 'attention', 'full')


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """A Llama decoder. `max_length` bounds the positions a path may reach.

  A `rope_factor` above 1 slows rotations down, for texts longer than those of
  pretraining. Llama 3 slows what turns less than `rope_low` times in
  `rope_original` positions, keeps what turns more than `rope_high` times, and
  blends between; with `rope_original` 0 all is slowed (arXiv 2306.15595).
  """

  vocab_size: int
  width: int
  mlp: int
  depth: int
  heads: int
  kv_heads: int
  max_length: int
  rope_theta: float = 10000.0
  rms_eps: float = 1e-6
  tie_head: bool = False
  rope_factor: float = 1.0
  rope_low: float = 1.0
  rope_high: float = 4.0
  rope_original: int = 0

  def __post_init__(self):
    _divides('text', self, 'width', 'heads')
    _divides('text', self, 'heads', 'kv_heads')
    if self.head_dim % 2:
      raise ValueError(
        f'text: rotary positions turn pairs, but width {self.width} over '
        f'{self.heads} heads leaves {self.head_dim}: choose an even head size'
      )
    if self.rope_factor <= 0 or not 0 <= self.rope_low < self.rope_high:
      raise ValueError(
        f'text: rope_factor {self.rope_factor}, rope_low {self.rope_low} and '
        f'rope_high {self.rope_high}: a factor above 0, and 0 <= low < high'
      )

  @property
  def head_dim(self) -> int:
    return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """An image tower: BEiT-3 read out by queries, or the patches of a CLIP-ViT.

  `layer` is the CLIP layer that is read, counted from the end as in LLaVA:
  -1 the last, -2 the one before; layers after it are not built. `query_rows`
  is the length of BEiT-3's second position table, at least queries + 2 (its
  first two rows are never read); released Muffin models have 1024.
  """

  kind: str
  image_size: int
  patch: int
  width: int
  mlp: int
  depth: int
  heads: int
  queries: int = 0
  query_rows: int = 0
  layer: int = -2

  def __post_init__(self):
    _one_of('vision.kind', self.kind, _KINDS)
    _divides('vision', self, 'image_size', 'patch')
    _divides('vision', self, 'width', 'heads')
    if (self.kind == 'beit3') != (self.queries > 0):
      raise ValueError(
        f'vision: kind {self.kind!r} with {self.queries} queries: beit3 is '
        'read out by queries (released models have 64), clip has none'
      )
    if self.query_rows and self.query_rows < self.queries + 2:
      raise ValueError(
        f'vision: {self.queries} queries need {self.queries + 2} query_rows, '
        f'not {self.query_rows}: raise it, or leave it at 0'
      )
    if not -self.depth - 1 <= self.layer <= -1:
      raise ValueError(
        f'vision: layer {self.layer} of a tower of depth {self.depth}: it '
        f'counts from the end, from -1 to {-self.depth - 1}'
      )

  @property
  def patches(self) -> int:
    return (self.image_size // self.patch) ** 2

  @property
  def tokens(self) -> int:
    """How many features a picture gives."""
    return self.queries or self.patches


@dataclasses.dataclass(frozen=True)
class VLMConfig:
  """A decoder, the tower it sees through (or none), and how they meet.

  `remat` says what is made again on the way back (`layers.stack`), `attention`
  how the decoder's is computed (`sight.py`): auto is what suits the chip.
  """

  text: TextConfig
  vision: VisionConfig | None = None
  image_token: int | None = None
  connector: str = 'linear'
  dtype: str = 'float32'
  remat: str = 'none'
  attention: str = 'auto'

  def __post_init__(self):
    _one_of('connector', self.connector, _CONNECTORS)
    _one_of('dtype', self.dtype, _DTYPES)
    _one_of('remat', self.remat, _REMAT)
    _one_of('attention', self.attention, WAYS)
    if self.vision is not None and self.image_token is None:
      raise ValueError(
        'image_token is missing: name the id that stands for an image feature'
      )

  @property
  def image_tokens(self) -> int:
    """P: placeholders a picture takes in the text; 0 without a tower."""
    return self.vision.tokens if self.vision is not None else 0

  @classmethod
  def of(cls, config: Mapping[str, Any]) -> VLMConfig:
    """From a ConfigDict or a dict, nested as the fields are."""
    # By what they are not: a ConfigDict is no Mapping.
    config = dict(config)
    for name, part in (('text', TextConfig), ('vision', VisionConfig)):
      if not isinstance(config.get(name), part | None):
        config[name] = _read(part, dict(config[name]), name)
    return _read(cls, config, 'model')


def _read(cls: type, mapping: Mapping[str, Any], where: str) -> Any:
  fields = dataclasses.fields(cls)
  known = [f.name for f in fields]
  for key in mapping:
    if key not in known:
      near = difflib.get_close_matches(key, known, 1) or [', '.join(known)]
      raise ValueError(f'{where}: unknown key {key!r}; it may be: {near[0]}')
  missing = [
    f.name
    for f in fields
    if f.default is dataclasses.MISSING and f.name not in mapping
  ]
  if missing:
    raise ValueError(f'{where}: missing {", ".join(missing)}')
  return cls(**mapping)


def _one_of(where: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(f'{where} {value!r} is none of {", ".join(choices)}')


def _divides(where: str, config: Any, whole: str, parts: str) -> None:
  a, b = getattr(config, whole), getattr(config, parts)
  if b < 1 or a % b:
    raise ValueError(f'{where}: {whole} {a} is no multiple of {parts} {b}')
