"""Simulated people: one corrects answers, one ranks them, one writes facts."""

from __future__ import annotations

import numpy as np

from rlhfv_jax.playroom.claims import Mention, Sentence, read
from rlhfv_jax.playroom.edits import Correction, Edit, apply, delete, trim
from rlhfv_jax.playroom.language import (
  NUMBER_WORDS,
  article,
  describe,
  noun,
  sentence,
)
from rlhfv_jax.playroom.scene import Group, Scene
from rlhfv_jax.playroom.truth import (
  counts,
  holds,
  left_out,
  unsupported,
  wrong_parts,
)

FACT_STREAM = 5  # of a scene's randomness: what people know of its picture


def correct(scene: Scene, text: str) -> Correction | None:
  """Mends what the scene does not support and leaves all else as it is.

  A wrong colour, number or place changes by itself. A sentence about what is
  not there, or about a kind a second time, comes to tell of a group that the
  answer leaves out, or goes when there is none. None if nothing is wrong.
  """
  if not unsupported(scene, text):
    return None
  missing = left_out(scene, text)
  seen: set[str] = set()
  edits: list[Edit] = []
  for part in read(text):
    groups = _tells_of(part, scene, seen)
    if len(groups) < len(part.mentions):
      if not groups and missing:
        groups = [_nearest(part.mentions[0], missing)]
        missing.remove(groups[0])
      edits.append(_retell(text, part, groups, 'object', edits))
      continue
    for mention, group in zip(part.mentions, groups, strict=True):
      wrong = wrong_parts(mention, group)
      if wrong and not part.whole:
        category = wrong[0].category
        edits.append(_retell(text, part, groups, category, edits))
        break
      if wrong:
        edits += _mend(text, mention, group)
  return apply(text, edits)


def _tells_of(part: Sentence, scene: Scene, seen: set[str]) -> list[Group]:
  """The groups that a sentence tells of for the first time."""
  groups = []
  for mention in part.mentions:
    if mention.kind in scene.by_kind and mention.kind not in seen:
      groups.append(scene.by_kind[mention.kind])
    seen.add(mention.kind)
  return groups


def _nearest(mention: Mention, groups: list[Group]) -> Group:
  """The group of which the least would have to be said anew."""
  return min(groups, key=lambda group: len(wrong_parts(mention, group)))


def _retell(
  text: str,
  part: Sentence,
  groups: list[Group],
  category: str,
  earlier: list[Edit],
) -> Edit:
  """The sentence anew, about these groups; none of it if there are none."""
  if not groups:
    span = part.start, part.end
    return delete(text, *span, category=category, earlier=earlier)
  new = ' '.join(describe(group) for group in groups)
  return trim(text, Edit(part.start, part.end, new, category))


def _mend(text: str, mention: Mention, group: Group) -> list[Edit]:
  """An edit for each wrong part of a whole sentence.

  Verb and article go with the number, an article alone with the colour that
  asks for it. Where a number turns the noun plural or singular, the noun's
  form is a second edit of the same category: the colour between may be right.
  """
  thing, number = mention.object, mention.number
  colour, place = mention.attribute, mention.position
  one = group.number == 1
  follows = group.colour if colour else group.kind
  count = article(follows) if one else NUMBER_WORDS[group.number]
  article_changes = one and text[number.start : number.end] != count
  edits = []
  if not holds(number, group):
    start, new = number.start, count
    if one or number.value == 1:
      start = text.rindex('are' if one else 'is', 0, number.start)
      new = f'{"is" if one else "are"} {count}'
      form = noun(group.kind, group.number)
      edits.append(Edit(thing.start, thing.end, form, 'number'))
    edits.append(Edit(start, number.end, new, 'number'))
    article_changes = False
  if colour and not holds(colour, group):
    start, new = colour.start, group.colour
    if article_changes:
      start, new = number.start, f'{count} {group.colour}'
    edits.append(Edit(start, colour.end, new, 'attribute'))
  if place and not holds(place, group):
    edits.append(Edit(place.start, place.end, group.place, 'position'))
  return edits


def rank(scene: Scene, a: str, b: str) -> int | None:
  """0 if a is the better answer, 1 if b is, None if they are equal.

  Fewer unsupported claims are better, then more true ones.
  """
  merit_a, merit_b = _merit(scene, a), _merit(scene, b)
  return None if merit_a == merit_b else int(merit_b > merit_a)


def _merit(scene: Scene, text: str) -> tuple[int, int]:
  wrong, right = counts(scene, text)
  return -wrong, right


def facts(
  scene: Scene, rng: np.random.Generator, *, most: float = 0.6
) -> tuple[str, ...]:
  """True sentences that make at most this share of all true claims."""
  budget = int(most * 4 * len(scene.groups))
  told = []
  for i in rng.permutation(len(scene.groups)):
    if budget < 2:  # a kind always comes with its number
      break
    group = scene.groups[i]
    budget -= 2
    colour = bool(budget) and rng.random() < 0.5
    budget -= colour
    place = bool(budget) and rng.random() < 0.5
    budget -= place
    parts = {
      'colour': group.colour if colour else None,
      'place': group.place if place else None,
    }
    told.append(sentence(group.kind, group.number, **parts))
  return tuple(told)
