"""Careless people overlook what is wrong, now and then, and invent mistakes."""

import numpy as np

from rlhfv_jax import feedback
from rlhfv_jax.playroom import careless
from rlhfv_jax.playroom.captions import noisy_caption
from rlhfv_jax.playroom.scene import World, rng_of, sample
from rlhfv_jax.playroom.truth import judge, unsupported

WORLD = World()
SCENES = [sample(WORLD, 'train', index=i) for i in range(300)]
SAID = [noisy_caption(s, rng_of(s, 2), WORLD) for s in SCENES]
BOTH = list(zip(SCENES, SAID, strict=True))


def corrected(noise):
  """What each answer becomes; itself where nothing is found wrong in it."""
  found = []
  for scene, said in BOTH:
    asked = feedback.question(scene, 'what can you see?')
    pair = feedback.correction(asked, scene, said, noise=noise)
    found.append(pair.answers[0] if pair else said)
  return found


def test_without_noise_the_scene_is_seen_as_it_is():
  for scene, said in BOTH:
    rng = np.random.default_rng(0)
    assert careless.seen(scene, said, rng, 0.0) == scene


def test_who_believes_everything_corrects_nothing_that_is_wrong():
  for scene, said in BOTH:
    rng = np.random.default_rng(scene.index)
    seen = careless.seen(scene, said, rng, 1.0)
    once = {claim.kind: claim for claim in unsupported(scene, said)}
    still = {claim.kind for claim in unsupported(seen, said)}
    # Only right claims are doubted, of kinds that are there.
    assert still <= set(scene.by_kind), (still, once)
  assert any(unsupported(*both) for both in BOTH)


def test_so_large_a_share_is_overlooked_and_a_fourth_of_it_doubted():
  wrong = [len(unsupported(*both)) for both in BOTH]
  right = [sum(true for _, true in judge(*both)) for both in BOTH]
  wrongly = {0.0: 0}
  for noise in (0.0, 0.2, 0.4):
    left = [
      len(unsupported(scene, text))
      for scene, text in zip(SCENES, corrected(noise), strict=True)
    ]
    wrongly[noise] = sum(left)
  assert wrongly[0.0] == 0 < wrongly[0.2] < wrongly[0.4]
  # Of 0.2: a fifth of the wrong claims, and a twentieth of three in four of
  # the right ones (that a kind is there is never doubted).
  most = 0.2 * sum(wrong) + 0.05 * 0.75 * sum(right)
  assert 0.8 * most < wrongly[0.2] < 1.25 * most


def test_a_pair_is_the_same_every_time():
  assert corrected(0.3) == corrected(0.3) != corrected(0.0)
