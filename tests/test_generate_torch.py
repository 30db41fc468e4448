"""Decoding against transformers.generate: same weights, same answers."""

import functools

import jax
import numpy as np
import pytest
import transformers
from originals import hugging_face, pictures, read, scattered

from rlhfv_jax import models
from rlhfv_jax.batch import Batch
from rlhfv_jax.generate import Decoding, generate

torch = pytest.importorskip('torch')

IMAGE, LENGTHS, NEW, STOP = 66, [14, 9, 12, 7], 12, (1, 4, 7, 10)
TEXT = dict(
  vocab_size=67, width=32, mlp=48, depth=2, heads=4, kv_heads=2, max_length=64,
  rms_eps=1e-5,
)  # fmt: skip
VISION = dict(image_size=16, patch=8, width=24, mlp=32, depth=2, heads=3)


@functools.cache
def theirs():
  config = transformers.LlavaConfig(
    text_config=hugging_face(TEXT),
    vision_config=transformers.CLIPVisionConfig(
      hidden_size=24, intermediate_size=32, num_hidden_layers=2,
      num_attention_heads=3, image_size=16, patch_size=8,
    ),
    image_token_index=IMAGE,
    image_seq_length=4,
  )  # fmt: skip
  return scattered(transformers.LlavaForConditionalGeneration(config))


@functools.cache
def ours():
  unread = ('post_layernorm', 'vision_tower.encoder.layers.1')
  config = dict(text=TEXT, vision=dict(kind='clip', **VISION),
                connector='mlp2x', image_token=IMAGE)  # fmt: skip
  return models.build(config), read(theirs(), unread)[0]


@functools.cache
def prompts():
  rng = np.random.default_rng(0)
  tokens = np.zeros((len(LENGTHS), max(LENGTHS)), np.int32)
  for b, length in enumerate(LENGTHS):
    tokens[b, :length] = rng.integers(11, IMAGE, length)
    tokens[b, 1:5] = IMAGE
  return Batch(
    {
      'tokens': tokens,
      'lengths': np.stack([LENGTHS, np.zeros_like(LENGTHS)], 1).astype('i4'),
      'images': pictures(len(LENGTHS), 16),
    },
    (max(LENGTHS), 0, 1),
  )


def pixels():
  mean = np.array([0.48145466, 0.4578275, 0.40821073])
  std = np.array([0.26862954, 0.26130258, 0.27577711])
  x = (prompts()['images'] / 255 - mean) / std
  return torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)


def answered(decoding, **options):
  """What transformers says to the prompts, and 0 behind where it was cut."""
  tokens = np.zeros_like(prompts()['tokens'])
  for b, length in enumerate(LENGTHS):  # theirs are padded on the left
    tokens[b, tokens.shape[1] - length :] = prompts()['tokens'][b, :length]
  with torch.no_grad():
    out = theirs().generate(
      torch.tensor(tokens).long(), pixel_values=pixels(),
      attention_mask=torch.tensor(tokens > 0).long(), do_sample=False,
      max_new_tokens=NEW, eos_token_id=list(decoding.stop) or None,
      pad_token_id=0, num_beams=decoding.beams,
      num_return_sequences=decoding.n,
      repetition_penalty=decoding.repetition_penalty, **options,
    )  # fmt: skip
  said = out[:, tokens.shape[1] :].numpy()
  return np.pad(said, [(0, 0), (0, NEW - said.shape[1])])


@pytest.mark.parametrize(
  'change, options',
  [
    ({}, {}),
    ({}, {'cache_implementation': 'static'}),
    ({'repetition_penalty': 1.3}, {}),
    ({'beams': 3}, {}),
    ({'beams': 3, 'repetition_penalty': 1.1, 'n': 2}, {}),
  ],
)
def test_answers_are_those_of_transformers(change, options):
  decoding = Decoding(NEW, stop=STOP, **change)
  found, logps = map(
    np.array, generate(*ours(), prompts(), decoding, jax.random.key(0))
  )
  said = answered(decoding, **options)
  # Behind the end a beam search fills up with something else.
  ends = np.cumsum(np.isin(said, STOP), axis=1) - np.isin(said, STOP)
  said = np.where(ends > 0, 0, said)
  np.testing.assert_array_equal(found, said)
  assert len({len(np.trim_zeros(row)) for row in found}) > 1
  assert len(np.unique(found)) > 5
  assert ((logps < 0) == (found > 0)).all()


class Pair(transformers.StoppingCriteria):
  """A new token that 3 divides, and one that it divides but for 1."""

  def __call__(self, ids, scores, **_):
    ended = (ids[:, -2] % 3 == 0) & (ids[:, -1] % 3 == 1)
    return ended & (ids.shape[1] > max(LENGTHS) + 1)


@pytest.mark.parametrize('beams', [1, 3])
def test_answers_that_a_text_ends_are_those_of_transformers(beams):
  spelled = tuple(
    (token, 1, 1) if token % 3 == 0 else (token, 0, 2)
    for token in range(TEXT['vocab_size']) if token % 3 < 2
  )  # fmt: skip
  decoding = Decoding(NEW, beams=beams, spelled=spelled)
  found, _ = generate(*ours(), prompts(), decoding, jax.random.key(0))
  said = answered(
    decoding, stopping_criteria=transformers.StoppingCriteriaList([Pair()])
  )
  ended = (said[:, :-1] % 3 == 0) & (said[:, 1:] % 3 == 1)
  behind = np.pad(np.cumsum(ended, axis=1) - ended, [(0, 0), (1, 0)])
  np.testing.assert_array_equal(found, np.where(behind > 0, 0, said))
  assert len({tuple(row > 0) for row in behind}) > 1
