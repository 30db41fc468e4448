"""What is measured: a model with its tower, and the shape of its pairs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rlhfv_jax.models.config import VLMConfig
from rlhfv_jax.models.presets import preset


@dataclasses.dataclass(frozen=True)
class Size:
  """Pairs of a picture and a question (`trunk` tokens) and two answers."""

  model: dict[str, Any]
  pairs: int
  trunk: int
  answer: int
  rank: int = 0  # of adapters on a bfloat16 base; 0: all is trained
  micro: int = 1
  optimizer: str = 'adamw'

  def __post_init__(self):
    config = self.config
    words = self.trunk - config.image_tokens
    if words < 1 or self.answer < 2 or self.pairs % self.micro:
      raise ValueError(
        f'{self.pairs} pairs in {self.micro} micro-batches of {self.trunk} + '
        f'2 x {self.answer} tokens: a picture takes {config.image_tokens} of '
        'the trunk and a question at least 1, an answer at least 2, and '
        'micro-batches are equal'
      )
    if self.trunk + self.answer > config.text.max_length:
      raise ValueError(
        f'a trunk of {self.trunk} and an answer of {self.answer} reach past '
        f'position {config.text.max_length}, where the model ends: take less'
      )

  @property
  def config(self) -> VLMConfig:
    return VLMConfig.of(self.model)

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str) -> Size:
    return cls(**json.loads(text))


def _small(text, vision) -> dict[str, Any]:
  """A LLaVA; its placeholder is the last word, so that tables are alike."""
  return {
    'text': {'rms_eps': 1e-5, **text},
    'vision': {'kind': 'clip', 'patch': 14, 'layer': -1, **vision},
    'connector': 'mlp2x',
    'image_token': text['vocab_size'] - 1,
  }


def _real(name: str, **changes) -> dict[str, Any]:
  return preset(name)['model'] | {'dtype': 'bfloat16', **changes}


SIZES = {
  'tiny': Size(
    _small(
      dict(vocab_size=256, width=64, mlp=96, depth=2, heads=4, kv_heads=4,
           max_length=128),
      dict(image_size=56, width=32, mlp=64, depth=2, heads=2),
    ),
    pairs=2, trunk=32, answer=16,
  ),
  'cpu': Size(
    _small(
      dict(vocab_size=32000, width=512, mlp=1376, depth=6, heads=8, kv_heads=8,
           max_length=1024),
      dict(image_size=336, width=256, mlp=1024, depth=4, heads=4),
    ),
    pairs=4, trunk=640, answer=128,
  ),
  '7b': Size(_real('llava15_7b'), pairs=8, trunk=656, answer=152, rank=128),
  '13b': Size(
    _real('llava15_13b', remat='full'), pairs=8, trunk=656, answer=152,
    optimizer='adafactor',
  ),
  # RLHF-V's own model and batch; an answer has 64 words on average.
  'rlhfv': Size(
    _real('rlhfv_13b', remat='full'), pairs=32, trunk=144, answer=88,
    optimizer='adafactor',
  ),
}  # fmt: skip


def size(name: str, **changes: int | None) -> Size:
  """A size by its name, with some of its numbers changed."""
  changes = {k: v for k, v in changes.items() if v is not None}
  return dataclasses.replace(SIZES[name], **changes)
