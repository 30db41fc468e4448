"""How fast a row is made: python tests/bench_input.py

On one core, from a JPEG of COCO's size to 336 pixels. `picture` is the picture
alone, against transformers' image processor, which ends in the normalised
floats that here the accelerator makes. `row` is what a trainer is handed: the
picture with the tokens of a pair, against transformers' LLaVA processor, which
tokenises when it is asked, where rows here were tokenised before. `bar` is our
row against their picture alone. Each is timed in turn with its counterpart, in
time of the processor, not of the clock.
"""

import io
import os
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from test_chat import TOKENIZERS
from transformers import LlavaImageProcessorPil, LlavaProcessor

from rlhfv_jax.data import chat, images, pipeline, plan
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example

SIZE, BATCH, ROUNDS = 336, 8, 40
TOKENS = 576  # features of a picture of 336 pixels
CHOSEN = 'there is a red cup at the top left of the table, and two chairs. ' * 5
PAIR = (CHOSEN, CHOSEN.replace('red', 'blue'))


def photograph(seed: int) -> bytes:
  """640 x 480, about as many bytes as COCO's pictures have."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (31, 41, 3), np.uint8)
  smooth = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
  grain = rng.normal(0, 12, (480, 640, 3))
  picture = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'JPEG', quality=90)
  return file.getvalue()


def their_processor(policy: str) -> LlavaProcessor:
  size, options = {'height': SIZE, 'width': SIZE}, {'do_center_crop': False}
  if policy != 'squash':
    options = {'crop_size': size, 'do_pad': policy == 'pad'}
    size = {'shortest_edge': SIZE}
  return LlavaProcessor(
    LlavaImageProcessorPil(size=size, **options),
    TOKENIZERS['bytes'],
    patch_size=14,
    vision_feature_select_strategy='default',
    num_additional_image_tokens=1,
  )


def our_items(files: list[bytes], policy: str) -> pipeline.Items:
  """What the trainer's workers run: item k is batch k."""
  examples = [
    Example(str(i), file, (('user', 'what can you see?'),), PAIR)
    for i, file in enumerate(files)
  ]
  rows = encode_all(
    examples, TOKENIZERS['bytes'], chat.template('vicuna_v1'),
    image_tokens=TOKENS,
  )  # fmt: skip
  buckets, _ = plan.choose_buckets(data_rows.lengths(rows), 1)
  pictures = images.Pictures(examples, SIZE, policy, cache_bytes=0)
  return pipeline.Items(
    rows, pictures, seed=0, buckets=buckets, batch=BATCH, epochs=1
  )


def both(theirs: Callable[[], None], ours: Callable[[], None]) -> np.ndarray:
  """Milliseconds a picture [ROUNDS,2], after two rounds to get warm."""

  def spent(work):
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start) / BATCH

  return np.array([(spent(theirs), spent(ours)) for _ in range(ROUNDS + 2)])[2:]


def measure(policy: str) -> dict[str, np.ndarray]:
  files = [photograph(seed) for seed in range(BATCH)]
  process, items = their_processor(policy), our_items(files, policy)
  asked = 'USER: <image>\nwhat can you see? ASSISTANT:'

  def their_pictures():
    for file in files:
      picture = Image.open(io.BytesIO(file))
      process.image_processor(picture, return_tensors='np')

  def our_pictures():
    for file in files:
      images.load(file, SIZE, policy=policy)

  def their_rows():
    for file in files:
      picture = Image.open(io.BytesIO(file))
      process(images=picture, text=asked, return_tensors='np')
      for answer in PAIR:
        process.tokenizer(f' {answer}</s>', add_special_tokens=False)

  return {
    'picture': both(their_pictures, our_pictures),
    'row': both(their_rows, lambda: items[0]),
    'bar': both(their_pictures, lambda: items[0]),
  }


def main() -> None:
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  for policy in sorted(images.POLICIES):
    for what, times in measure(policy).items():
      (theirs, ours), middle = times.min(0), np.median(times, 0)
      print(
        f'{policy:6} {what:7}  least {theirs:5.2f} ms and {ours:5.2f}: '
        f'{theirs / ours:.2f} times as fast;  median {middle[0]:5.2f} and '
        f'{middle[1]:5.2f}: {middle[0] / middle[1]:.2f}'
      )


if __name__ == '__main__':
  main()
