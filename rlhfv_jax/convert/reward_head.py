"""The head of a released reward model: a small file beside its adapters.

LLaVA-RLHF keeps a linear layer of torch, weight [1,D] and bias [1], in a file
`reward_head` without a suffix. With it the model scores (`models/score.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhfv_jax import hosts
from rlhfv_jax.convert import torch_file
from rlhfv_jax.models.config import VLMConfig
from rlhfv_jax.models.score import HEAD

FILE = 'reward_head'


def read(folder: Path, config: VLMConfig) -> dict[str, np.ndarray]:
  """The leaves of the head, in float32; none where the file is not there."""
  path = folder / FILE
  if not path.is_file():
    return {}
  width = config.text.width
  found = dict(torch_file.read(path, ('weight', 'bias')))
  shapes = {name: x.shape for name, x in found.items()}
  if shapes != {'weight': (1, width), 'bias': (1,)}:
    raise ValueError(
      f'{path} has {shapes}, and a head of this model is weight (1, {width}) '
      'and bias (1,): is it of a decoder of another size?'
    )
  weight, bias = (found[k].astype(np.float32)[0] for k in ('weight', 'bias'))
  return {f'{HEAD}/weight': weight, f'{HEAD}/bias': np.float32(bias)}


def write(folder: Path, params: Mapping[str, Any]) -> None:
  """The file of flat parameters that judge; the inverse of `read`."""
  if f'{HEAD}/weight' not in params:
    return
  weight, bias = (
    np.asarray(hosts.whole(params[f'{HEAD}/{k}'])) for k in ('weight', 'bias')
  )
  torch_file.write(folder / FILE, {'weight': weight[None], 'bias': bias[None]})
