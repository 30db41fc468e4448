"""Careless people: what an answer says changes what they see in a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlhfv_jax.playroom.claims import Claim, Mention, mentions
from rlhfv_jax.playroom.scene import (
  COLOURS,
  NUMBERS,
  PLACES,
  Group,
  Scene,
)
from rlhfv_jax.playroom.truth import holds

STREAM = 7  # of a scene's randomness: what is overlooked in its picture
DOUBT = 0.25  # right claims are doubted, as a share of wrong ones believed
_PARTS = {
  'attribute': ('colour', COLOURS),
  'position': ('place', PLACES),
  'number': ('number', NUMBERS),
}


def seen(
  scene: Scene, text: str, rng: np.random.Generator, noise: float
) -> Scene:
  """The scene as somebody takes it to be who reads the text beside it.

  A wrong claim is believed by the chance `noise`, so it stays in a correction;
  a right one is doubted by a fourth of that, and becomes wrong. Without noise
  it is the scene.
  """
  groups = dict(scene.by_kind)
  for mention in mentions(text):
    # One draw a claim, whatever comes of it.
    drawn = {claim.category: rng.random() for claim in mention.claims}
    if mention.kind in groups:
      groups[mention.kind] = _taken(
        groups[mention.kind], mention, drawn, noise, rng
      )
    elif drawn['object'] < noise:
      groups[mention.kind] = _believed(mention, rng)
  return replace(scene, groups=tuple(groups.values()))


def _taken(
  group: Group,
  mention: Mention,
  drawn: dict[str, float],
  noise: float,
  rng: np.random.Generator,
) -> Group:
  """A group that is there, with parts of it misseen."""
  for claim in mention.claims:
    if claim.category not in _PARTS:
      continue
    name, values = _PARTS[claim.category]
    if not holds(claim, group):
      if drawn[claim.category] < noise:
        group = replace(group, **{name: claim.value})
    elif drawn[claim.category] < DOUBT * noise:
      others = [value for value in values if value != claim.value]
      group = replace(group, **{name: others[rng.integers(len(others))]})
  return group


def _believed(mention: Mention, rng: np.random.Generator) -> Group:
  """A group that is not there, as it is told."""

  def told(claim: Claim | None, values):
    return claim.value if claim else values[rng.integers(len(values))]

  return Group(
    mention.kind, told(mention.attribute, COLOURS),
    told(mention.number, NUMBERS), told(mention.position, PLACES),
  )  # fmt: skip
