"""K views of N pictures are K N rows that know which pixels they are about."""

import io

import numpy as np
from PIL import Image
from test_chat import TOKENIZER

from rlhfv_jax.data import chat, images, pipeline, plan, views
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example, lengths, path_key, row

N, K, SIZE = 5, 3, 16
PAIR = ('there is a red cup.', 'there is a blue cup.')


def png(seed: int) -> bytes:
  rng = np.random.default_rng(seed)
  file = io.BytesIO()
  pixels = rng.integers(0, 256, (24, 30, 3), np.uint8)
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


EXAMPLES = [
  Example(f'r{i}', png(i), (('user', 'what can you see?'),), PAIR)
  for i in range(N)
]
EXAMPLES[2] = Example('bad', b'no picture', EXAMPLES[2].turns, PAIR)
ROWS = encode_all(
  EXAMPLES, TOKENIZER, chat.template('playroom'), image_tokens=2
)
MANY = views.repeat(ROWS, K)
PICTURES = images.Pictures(EXAMPLES, SIZE, augment='untrusted', views=K)


def test_the_random_numbers_of_a_view_are_these():
  """They name pixels on other machines too, so they may never change."""
  roll = views.roll('a view')
  found = [roll() for _ in range(1000)]
  assert found[:2] == [0.6137031313037405, 0.061256465158639584]
  assert 0 <= min(found) < 0.01 and 0.99 < max(found) < 1
  assert abs(np.mean(found) - 0.5) < 0.03


def test_each_row_is_there_once_a_view():
  assert len(MANY) == N * K and MANY.kept == (N - 1) * K
  for i in range(N * K):
    if i % N != 2:
      for mine, theirs in zip(row(MANY, i).answers, row(ROWS, i % N).answers,
                              strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs)
    assert MANY.ids[i] == EXAMPLES[i % N].id
  assert MANY.tokens is ROWS.tokens
  assert [r.id for r in MANY.rejected] == ['bad']


def test_a_cached_reference_belongs_to_one_view():
  kept = [i for i in range(N * K) if i % N != 2]
  keys = {path_key(row(MANY, i), 0, PICTURES.name(i)) for i in kept}
  assert len(keys) == len(kept)
  plain = images.Pictures(EXAMPLES, SIZE)
  assert path_key(row(ROWS, 0), 0, plain.name(0)) not in keys


def batches(pictures, **options):
  buckets, _ = plan.choose_buckets(lengths(MANY), 1)
  return pipeline.batches(
    MANY, pictures, seed=0, buckets=buckets, batch=4, epochs=2, **options
  )


def test_the_policy_sees_the_pixels_of_the_reference():
  """In any order, epoch, process and worker: the pixels of the row's name."""
  seen = []
  fresh = images.Pictures(EXAMPLES, SIZE, augment='untrusted', views=K,
                          cache_bytes=0)  # fmt: skip
  for here in np.arange(4).reshape(2, -1):
    for _, batch in batches(fresh, here=here):
      for index, pixels in zip(batch['index'], batch['images'], strict=True):
        if index >= 0:
          np.testing.assert_array_equal(pixels, PICTURES[int(index)])
          seen.append(int(index))
  assert sorted(seen) == sorted([i for i in range(N * K) if i % N != 2] * 2)
