"""What is around the step: decoding, input, start-up, checkpoints."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from launch.speed import clock, ours, pairs
from launch.speed.sizes import Size
from rlhfv_jax import checkpoint, models
from rlhfv_jax.batch import Batch
from rlhfv_jax.data import chat, images, pipeline, plan
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example
from rlhfv_jax.feed import to_batch
from rlhfv_jax.generate import Decoding, generate

INTERVAL = 50  # steps between checkpoints, the default of an experiment


def decode(size: Size, *, steps: int) -> dict[str, Any]:
  """Greedy answers to the questions, prefill included."""
  held = ours.build(size)
  made = pairs.trunks(pairs.draw(size), size)
  lengths = np.full((size.pairs, 2), [size.trunk, 0], np.int32)
  prompts = Batch(
    {'tokens': made['tokens'][:, : size.trunk], 'lengths': lengths,
     'images': made['images']},
    (size.trunk, 0, 1),
  )  # fmt: skip
  decoding, key = Decoding(size.answer), jax.random.key(0)
  with jax.set_mesh(held.mesh):
    weights = models.split(held.model, held.params)
    answer = lambda: np.asarray(
      generate(held.model, weights, prompts, decoding, key)[0]
    )
    took = clock.summary(clock.seconds(answer, warm=1, steps=steps))
  tokens = size.pairs * size.answer
  return took | {
    'rows': size.pairs, 'new': size.answer,
    'tokens_per_second': tokens / took['seconds'],
  }  # fmt: skip


def feed(size: Size, *, steps: int) -> dict[str, Any]:
  """Rows a second of the pipeline: JPEG files of 640 x 480 and tokens."""
  c, number = size.config, 4 * size.pairs
  examples = [
    Example(str(i), _photograph(i), (('user', 'what can you see?'),),
            ('there is a red cup. ' * 4, 'there is a blue cup. ' * 4))
    for i in range(number)
  ]  # fmt: skip
  words = ['there', 'is', 'a', 'red', 'blue', 'cup', '.']
  words += ['what', 'can', 'you', 'see', '?']
  rows = encode_all(
    examples, chat.word_tokenizer(words), chat.template('playroom'),
    image_tokens=c.image_tokens,
  )  # fmt: skip
  buckets, _ = plan.choose_buckets(data_rows.lengths(rows), 1)
  pictures = images.Pictures(
    examples, c.vision.image_size, 'squash', cache_bytes=0
  )
  items = pipeline.Items(
    rows, pictures, seed=0, buckets=buckets, batch=size.pairs, epochs=1
  )
  took = clock.summary(clock.seconds(lambda: items[0], warm=1, steps=5 * steps))
  return took | {'rows_per_second': size.pairs / took['seconds']}


def _photograph(seed):
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 256, (31, 41, 3), np.uint8))
  smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC))
  grain = rng.normal(0, 12, smooth.shape)
  file = io.BytesIO()
  picture = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
  picture.save(file, 'JPEG', quality=90)
  return file.getvalue()


def start(size: Size, *, steps: int) -> dict[str, Any]:
  """Seconds of the parts of a start; who starts it knows the whole."""
  begun = time.perf_counter()
  held = ours.build(size)
  jax.block_until_ready(held.params)
  weights = time.perf_counter()
  with jax.set_mesh(held.mesh):
    bucket = size.trunk, size.answer, 2
    arrays = pairs.trunks(pairs.draw(size), size)
    arrays['ref_logps'] = np.zeros(arrays['tokens'].shape, np.float32)
    state, step, hyper = ours.stepper(held, micro=size.micro)
    state, stats = step(state, to_batch((bucket, arrays), held.mesh), hyper)
    jax.block_until_ready((state, stats))
  stepped = time.perf_counter()
  return {'weights': weights - begun, 'first': stepped - weights}


def save(size: Size, *, steps: int) -> dict[str, Any]:
  """How long a loop stands still for a checkpoint of the whole state.

  Steps after the save are timed too: the disk is written while they run.
  """
  held = ours.build(size)
  with tempfile.TemporaryDirectory() as folder, jax.set_mesh(held.mesh):
    bucket = size.trunk, size.answer, 2
    arrays = pairs.trunks(pairs.draw(size), size)
    arrays['ref_logps'] = np.zeros(arrays['tokens'].shape, np.float32)
    batch = to_batch((bucket, arrays), held.mesh)
    state, train_step, hyper = ours.stepper(held, micro=size.micro)

    def step():
      nonlocal state
      state, stats = train_step(state, batch, hyper)
      jax.block_until_ready((state, stats))

    plain = clock.seconds(step, warm=1, steps=steps)
    kept = checkpoint.Checkpoints(Path(folder) / 'checkpoints')
    stalls, beside = [], []
    for number in range(2):
      begun = time.perf_counter()
      kept.save(number, state, {'step': np.array(number)})
      stalls.append(time.perf_counter() - begun)
      beside += clock.seconds(step, warm=0, steps=steps)
    kept.close()
  usual = clock.summary(plain)['seconds']
  slower = sum(x[0] - usual for x in beside) / 2
  lost = stalls[-1] + max(0.0, slower)
  return {
    'step': usual, 'stall': stalls[-1], 'slower': slower,
    'interval': INTERVAL, 'share': lost / (INTERVAL * usual),
  }  # fmt: skip
