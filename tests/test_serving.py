"""Serving: an answer is the same in any slot, beside any neighbours."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from test_generate import LENGTHS, STOP, made, prompts

from rlhfv_jax import models, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.generate import Decoding, generate, serving
from rlhfv_jax.models.clip import Clip

NEW, ROUNDS = 6, 4
SAMPLED = Decoding(
  NEW, temperature=1.5, top_p=0.9, repetition_penalty=1.3, stop=STOP
)


def on(devices):
  auto = (jax.sharding.AxisType.Auto,) * 3
  return jax.make_mesh(
    (1, 1, 1), sharding.AXES, axis_types=auto, devices=devices
  )


def asked():
  """More prompts than slots, of several lengths."""
  batch, each = prompts(), np.flatnonzero(LENGTHS)
  return [
    serving.Prompt(
      index,
      batch['tokens'][b, : LENGTHS[b]],
      batch['images'][b],
    )
    for index, b in enumerate(np.tile(each, ROUNDS))
  ]


def served(decoding, which=None, *, slots=8, mesh=None, **options):
  """Answers by their number and sample."""
  chosen = [p for p in asked() if which is None or p.index in which]
  out = serving.stream(
    *made(), chosen, decoding, jax.random.key(0), slots=slots,
    trunks=(8, 16), mesh=mesh or sharding.make_mesh(), **options,
  )  # fmt: skip
  return {(a.index, a.sample): a for a in out}


@functools.cache
def whole(decoding):
  """The same prompts in one batch."""
  batch = prompts()
  rows = np.tile(np.flatnonzero(LENGTHS), ROUNDS)
  arrays = {k: batch[k][rows] for k in ('tokens', 'lengths', 'images')}
  both = generate(
    *made(), Batch(arrays, batch.bucket), decoding, jax.random.key(0)
  )
  return [np.array(x) for x in both]


@pytest.mark.parametrize('steps', [2, 32])
def test_a_stream_gives_the_answers_of_a_batch(steps):
  found = served(SAMPLED, steps=steps)
  tokens, logps = whole(SAMPLED)
  assert set(found) == {(i, 0) for i in range(len(tokens))}
  for (i, _), own in found.items():
    size = len(own.tokens)
    np.testing.assert_array_equal(own.tokens, tokens[i, :size])
    np.testing.assert_allclose(own.logps, logps[i, :size], atol=1e-5)
    assert not tokens[i, size:].any()
  sizes = {len(own.tokens) for own in found.values()}
  assert len(sizes) > 2 and max(sizes) == NEW


@pytest.mark.parametrize('devices', [1, 8])
def test_neighbours_and_slots_change_no_bit(devices):
  mesh = on(jax.devices()[:1]) if devices == 1 else sharding.make_mesh()
  every = served(SAMPLED, mesh=mesh)
  some = served(SAMPLED, which={3, 5, 6, 11, 12, 14}, mesh=mesh)
  assert len(some) == 6
  for key, own in some.items():
    np.testing.assert_array_equal(own.tokens, every[key].tokens)
    assert own.logps.tobytes() == every[key].logps.tobytes()


def test_one_device_gives_what_eight_do():
  devices = jax.devices()
  assert len(devices) == 8
  one = on(devices[:1])
  others = served(SAMPLED, mesh=sharding.make_mesh((2, 2, 2)))
  for key, own in served(SAMPLED, mesh=one).items():
    np.testing.assert_array_equal(own.tokens, others[key].tokens)
    np.testing.assert_allclose(own.logps, others[key].logps, atol=1e-5)


def test_weights_lie_by_the_rules_of_training():
  model, params = made()
  # No mesh divides the vocabulary of this one: its words lie whole.
  mesh, whole_words = (
    sharding.make_mesh((2, 2, 2)),
    jax.sharding.PartitionSpec(),
  )
  rules = ((r'.*(embed_tokens|lm_head)/.*', whole_words), *sharding.RULES)
  lie = sharding.specs(params, mesh, rules)
  params = jax.device_put(params, lie)
  for layer in models.split(model, params).layers:
    wide = layer['mlp']['gate_proj']['kernel']
    assert wide.sharding.spec == jax.sharding.PartitionSpec('fsdp', 'tensor')
  tokens, _ = whole(SAMPLED)
  for own in serving.stream(
    model, params, asked(), SAMPLED, jax.random.key(0), slots=8, trunks=(16,),
    mesh=mesh,
  ):  # fmt: skip
    np.testing.assert_array_equal(
      own.tokens, tokens[own.index, : len(own.tokens)]
    )


def test_samples_of_a_prompt_share_its_prefill_and_differ():
  decoding = Decoding(NEW, temperature=1.5, n=3)
  found = served(decoding, slots=24)
  tokens, _ = whole(decoding)
  assert len(found) == 3 * len(asked())
  for (i, k), own in found.items():
    np.testing.assert_array_equal(own.tokens, tokens[3 * i + k])


@pytest.mark.parametrize(
  'decoding, slots',
  [
    (Decoding(5, temperature=1.5, n=3), 24),
    (Decoding(5, beams=3), 8),
    (Decoding(5, beams=3, n=2), 8),
  ],
)
def test_a_picture_is_encoded_once_whatever_is_made_of_it(decoding, slots):
  """What the tower is given while it runs, not while it is traced."""
  given = []

  def counted(call, args, options, context):
    if isinstance(context.module, Clip) and context.method_name == '__call__':
      jax.debug.callback(functools.partial(given.append, len(args[0])))
    return call(*args, **options)

  with nn.intercept_methods(counted):
    found = served(decoding, slots=slots, mesh=on(jax.devices()[:1]))
  jax.effects_barrier()
  assert len(found) == decoding.n * len(asked())
  assert max(len(own.tokens) for own in found.values()) > 1
  assert sum(given) == len(asked())


def test_beams_come_a_batch_at_a_time():
  decoding = Decoding(NEW, beams=3, n=2, stop=STOP)
  found = served(decoding)
  tokens, logps = whole(decoding)
  for (i, k), own in found.items():
    size = len(own.tokens)
    np.testing.assert_array_equal(own.tokens, tokens[2 * i + k, :size])
    assert not logps[2 * i + k, size:].any()


def test_a_beam_that_is_certain_of_its_words_is_whole():
  """Its log-probabilities are 0 to the bit, as those of nothing written."""
  model, params = made()
  text = params['language_model']
  head = jax.tree.map(lambda x: 1e4 * x, text['lm_head'])
  sure = params | {'language_model': text | {'lm_head': head}}
  decoding = Decoding(NEW, beams=3, stop=STOP)
  rows = np.flatnonzero(LENGTHS)
  out = serving.stream(
    model, sure, asked()[: len(rows)], decoding, jax.random.key(0), slots=8,
    trunks=(16,), mesh=sharding.make_mesh(),
  )  # fmt: skip
  tokens, _ = map(
    np.array, generate(model, sure, prompts(), decoding, jax.random.key(0))
  )
  for own in out:
    size = len(own.tokens)
    np.testing.assert_array_equal(own.tokens, tokens[rows[own.index], :size])
    assert size == NEW or own.tokens[-1] in STOP


@pytest.mark.parametrize(
  'decoding', [Decoding(NEW), Decoding(NEW, temperature=0.7)]
)
def test_an_answer_ends_where_two_of_its_tokens_spell_the_end(decoding):
  longest = {key: a.tokens.tolist() for key, a in served(decoding).items()}
  one, two = longest[0, 0][2:4]
  spelled = ((one, 1, 1), (two, 0, 2)) if one != two else ((one, 1, 2),)
  found = served(dataclasses.replace(decoding, spelled=spelled))
  for key, whole in longest.items():
    ends = (n for n in range(2, NEW) if whole[n - 2 : n] == [one, two])
    size = next(ends, NEW)
    assert found[key].tokens.tolist() == whole[:size]
  assert min(len(own.tokens) for own in found.values()) < NEW


@pytest.mark.parametrize('steps', [1, 2, 5])
def test_a_text_that_ends_answers_is_found_wherever_one_looks(steps):
  greedy = Decoding(NEW)
  longest = served(greedy)
  end = {i: own.tokens[3] for (i, _), own in longest.items()}

  def over(index, tokens):
    return end[index] in tokens

  found = served(greedy, steps=steps, over=over)
  for key, own in found.items():
    size = list(longest[key].tokens).index(end[key[0]]) + 1
    np.testing.assert_array_equal(own.tokens, longest[key].tokens[:size])


def test_a_ladder_has_a_rung_for_every_length():
  assert serving.ladder([620, 700]) == (704,)
  assert serving.ladder([30, 700]) == (48, 88, 176, 352, 704)
  assert serving.ladder([3]) == (8,)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='prompt 0 has 9 tokens .* 8'):
    list(
      serving.stream(
        *made(), asked(), SAMPLED, jax.random.key(0), slots=8, trunks=(8,),
        mesh=sharding.make_mesh(),
      )
    )  # fmt: skip
  with pytest.raises(ValueError, match='12 slots .* multiple of 8'):
    served(SAMPLED, slots=12)
