"""The models: pure functions of a nested dict with Hugging Face leaf names."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rlhfv_jax.models.config import TextConfig, VisionConfig, VLMConfig
from rlhfv_jax.models.head import (
  features,
  hidden,
  logps_from_logits,
  logps_of_hidden,
  token_logps,
)
from rlhfv_jax.models.llama import Cache, Past
from rlhfv_jax.models.score import score_head, scores, values
from rlhfv_jax.models.unrolled import Weights, forward, kept_by, split
from rlhfv_jax.models.vlm import VLM

__all__ = [
  'Cache',
  'Past',
  'TextConfig',
  'VLM',
  'VLMConfig',
  'VisionConfig',
  'Weights',
  'build',
  'features',
  'forward',
  'hidden',
  'init',
  'kept_by',
  'logps_from_logits',
  'logps_of_hidden',
  'score_head',
  'scores',
  'shapes',
  'split',
  'token_logps',
  'values',
]


def build(config: Mapping[str, Any] | VLMConfig) -> VLM:
  """A model from its numbers; it holds no arrays."""
  if not isinstance(config, VLMConfig):
    config = VLMConfig.of(config)
  return VLM(config)


def init(model: VLM, key: jax.Array) -> dict[str, Any]:
  """Fresh float32 parameters: pure, so it can be traced, sharded or shaped."""
  vision = model.config.vision
  side = vision.image_size if vision is not None else 1
  images = jnp.zeros((1, side, side, 3), jnp.uint8)
  tokens = jnp.zeros((1, 1), jnp.int32)
  # In a loop: of layers written out, all fresh numbers would be there at once.
  config = dataclasses.replace(model.config, remat='full')
  # Under jit the forward pass of the trace is dropped and only init remains.
  made = jax.jit(model.clone(config=config).init, static_argnames='method')
  return made(key, images, tokens, method='whole')['params']


@functools.cache
def shapes(model: VLM) -> Any:
  """The tree that `init` would make, of shapes and dtypes alone."""
  return jax.eval_shape(functools.partial(init, model), jax.random.key(0))
