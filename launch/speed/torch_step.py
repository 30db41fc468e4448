"""The rival: a plain torch step as a careful hand would write it.

The reference is cached, a picture is encoded once a pair, and only the answers
reach the head. A pair is two rows: nothing of the question is shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from launch.speed import clock, pairs
from launch.speed.settings import BETA, CLIP, DECODER, RATE
from launch.speed.sizes import Size

# What CLIP was trained on: mean and deviation of red, green, blue.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def device() -> torch.device:
  return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def load(folder: Path) -> Any:
  """The exported weights, as transformers has the model."""
  return LlavaForConditionalGeneration.from_pretrained(folder).to(device())


def inputs(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
  """pixels [B,3,H,W] and the words of both answers' rows [2B,L]."""
  drawn = pairs.draw(size)
  tokens = torch.tensor(pairs.rows(drawn, size)['tokens']).long()
  pixels = torch.tensor(drawn.images.transpose(0, 3, 1, 2)).float() / 255
  mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _STD))
  return ((pixels - mean) / std).to(device()), tokens.to(device())


def answer_logps(
  model: Any, size: Size, pixels: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
  """The log-prob of each answer [B,2]."""
  seen = model.model.get_image_features(pixel_values=pixels)
  seen = torch.stack(tuple(getattr(seen, 'pooler_output', seen)))
  spaces = seen.shape[1]
  words = model.get_input_embeddings()(tokens[:, spaces:])
  x = torch.cat([seen.repeat_interleave(2, 0).to(words.dtype), words], dim=1)
  # Rows are full, so that attention is plainly causal: its fast path.
  out = model.model.language_model(inputs_embeds=x, use_cache=False)
  states = out.last_hidden_state[:, size.trunk - 1 : -1]
  logits = model.lm_head(states).float()
  said = tokens[:, size.trunk :]
  logps = -F.cross_entropy(
    logits.flatten(0, 1), said.flatten(), reduction='none'
  )
  return logps.view(size.pairs, 2, -1).sum(-1)


def measure(size: Size, folder: Path, *, steps: int) -> dict[str, Any]:
  model = load(folder).train()
  pixels, tokens = inputs(size)
  half = size.config.dtype == 'bfloat16'
  cast = torch.autocast(device().type, torch.bfloat16, enabled=half)
  with torch.no_grad(), cast:
    reference = answer_logps(model, size, pixels, tokens)
  if size.rank:
    import peft

    peft.get_peft_model(model, adapters(size))  # changes the model itself
  trained = [p for p in model.parameters() if p.requires_grad]
  adamw = torch.optim.AdamW(trained, RATE, weight_decay=0.0, fused=True)
  seen = []

  def step():
    with cast:
      logps = answer_logps(model, size, pixels, tokens)
    reward = BETA * (logps - reference)
    loss = -F.logsigmoid(reward[:, 0] - reward[:, 1]).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
    adamw.step()
    adamw.zero_grad(set_to_none=True)
    seen.append((loss.item(), norm.item(), logps.detach().mean(0).tolist()))

  took = clock.seconds(step, warm=1, steps=steps)
  losses, norms, logps = zip(*seen, strict=True)
  return clock.summary(took) | {
    'peak_mib': peak(),
    'loss': list(losses),
    'grad_norm': list(norms),
    'logps': list(logps[0]),
    'version': f'torch {torch.__version__}',
  }


def adapters(size: Size) -> Any:
  """What is trained of a model with adapters, in peft's words."""
  import peft

  return peft.LoraConfig(
    r=size.rank, lora_alpha=2 * size.rank, target_modules=DECODER
  )


def peak() -> float:
  """Of the accelerator, or of this process where there is none."""
  if torch.cuda.is_available():
    return torch.cuda.max_memory_allocated() / clock.MIB
  return clock.peak_mib()
