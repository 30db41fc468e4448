"""Tokens a second, each kind in a process of its own: ours, theirs, served.

`theirs` is transformers.generate with a static cache, on the same model of 53M
parameters. `served` is a stream of answers whose lengths differ widely, beside
one of answers of their mean length. Seconds are of the processor, so that a
busy machine tells the same.
"""

import functools
import json
import sys
import time
from pathlib import Path

import numpy as np

BATCH, PROMPT, NEW, IMAGE = 16, 96, 48, 31999
TEXT = dict(
  vocab_size=32000, width=512, mlp=1376, depth=6, heads=8, kv_heads=8,
  max_length=512, rms_eps=1e-5,
)  # fmt: skip
VISION = dict(image_size=56, patch=14, width=128, mlp=256, depth=4, heads=4)
SMALL = dict(
  vocab_size=4096, width=384, mlp=1024, depth=6, heads=6, kv_heads=6,
  max_length=512,
)  # fmt: skip


def prompts():
  rng = np.random.default_rng(0)
  tokens = rng.integers(10, 30000, (BATCH, PROMPT)).astype(np.int32)
  tokens[:, 1:17] = IMAGE
  return tokens, rng.integers(0, 256, (BATCH, 56, 56, 3)).astype(np.uint8)


def rate(answers, repeats=2) -> float:
  """Tokens a second of what answers and says how many; the first warms up."""
  answers()
  best = 0.0
  for _ in range(repeats):
    begun = time.process_time()
    tokens = answers()
    best = max(best, tokens / (time.process_time() - begun))
  return best


def built(text, **rest):
  """A model with random parameters: values do not matter to the clock."""
  import jax

  from rlhfv_jax import models, process

  process.keep_memory()
  model = models.build(dict(text=text, **rest))
  shapes = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  rng = np.random.default_rng(0)
  draw = lambda path, x: jax.numpy.asarray(
    np.float32(rng.normal(path[-1].key == 'weight', 0.02, x.shape))
  )
  params = jax.tree_util.tree_map_with_path(draw, shapes)
  return model, models.split(model, params)


def ours() -> float:
  import jax

  from rlhfv_jax.batch import Batch
  from rlhfv_jax.generate import Decoding, generate

  model = built(TEXT, vision=dict(kind='clip', **VISION), connector='mlp2x',
                image_token=IMAGE)  # fmt: skip
  tokens, images = prompts()
  lengths = np.full((BATCH, 2), [PROMPT, 0], np.int32)
  arrays = dict(tokens=tokens, lengths=lengths, images=images)
  batch, key = Batch(arrays, (PROMPT, 0, 1)), jax.random.key(0)

  def answers():
    return np.array(generate(*model, batch, Decoding(NEW), key)[0]).size

  return rate(answers)


def theirs() -> float:
  import torch
  import transformers
  from originals import hugging_face

  torch.set_num_threads(1)  # threads that wait would be counted
  config = transformers.LlavaConfig(
    text_config=hugging_face(TEXT),
    vision_config=transformers.CLIPVisionConfig(
      hidden_size=128, intermediate_size=256, num_hidden_layers=4,
      num_attention_heads=4, image_size=56, patch_size=14,
    ),
    image_token_index=IMAGE,
    image_seq_length=16,
  )  # fmt: skip
  model = transformers.LlavaForConditionalGeneration(config).eval()
  tokens, images = prompts()
  given = torch.tensor(tokens).long()
  pixels = torch.tensor(images.transpose(0, 3, 1, 2) / 255).float()

  def answers():
    with torch.no_grad():
      out = model.generate(
        given, pixel_values=pixels, attention_mask=torch.ones_like(given),
        do_sample=False, max_new_tokens=NEW, eos_token_id=None,
        pad_token_id=0, cache_implementation='static',
      )  # fmt: skip
    return out[:, PROMPT:].numel()

  return rate(answers)


def served() -> tuple[float, float]:
  """The rate of answers of 1 to 160 tokens, and of their mean, 60."""
  import jax

  from rlhfv_jax import sharding
  from rlhfv_jax.generate import Decoding, serving

  model, rng = built(SMALL), np.random.default_rng(0)
  asked = [
    serving.Prompt(i, rng.integers(1, 4000, 32).astype(np.int32))
    for i in range(160)
  ]
  mesh = sharding.make_mesh()

  def stream(stop, **options):
    decoding = Decoding(160, temperature=1.0, stop=stop)
    out = serving.stream(
      *model, asked, decoding, jax.random.key(0), slots=BATCH, trunks=(32,),
      mesh=mesh, **options,
    )  # fmt: skip
    return sum(len(answer.tokens) for answer in out)

  over = lambda index, tokens: len(tokens) >= 61
  spread = functools.partial(stream, tuple(range(0, 4096, 68)))
  fixed = lambda: stream((), over=over, steps=20)
  return rate(spread, repeats=1), rate(fixed, repeats=1)


if __name__ == '__main__':
  sys.path.insert(0, str(Path(__file__).parents[1]))
  kinds = {'ours': ours, 'theirs': theirs, 'served': served}
  print(json.dumps(kinds[sys.argv[1]]()))
