"""What of a text is so: its claims held against the scene."""

from __future__ import annotations

from rlhfv_jax.playroom.claims import Claim, Mention, mentions
from rlhfv_jax.playroom.scene import Group, Scene


def judge(scene: Scene, text: str) -> list[tuple[Claim, bool]]:
  """Every claim that counts, and whether the scene supports it.

  A kind that is not there is one wrong claim, and what is said about it
  counts no further. So is a kind's second mention: it claims another group.
  """
  there = scene.by_kind
  judged, seen = [], set()
  for mention in mentions(text):
    group = there.get(mention.kind)
    if group is None or mention.kind in seen:
      judged.append((mention.object, False))
    else:
      judged += [(claim, holds(claim, group)) for claim in mention.claims]
    seen.add(mention.kind)
  return judged


def holds(claim: Claim, group: Group) -> bool:
  """Whether what is claimed is true of this group."""
  truth = {
    'object': group.kind,
    'attribute': group.colour,
    'position': group.place,
    'number': group.number,
  }
  return claim.value == truth[claim.category]


def unsupported(scene: Scene, text: str) -> list[Claim]:
  """The claims of a text that the scene does not support."""
  return [claim for claim, true in judge(scene, text) if not true]


def counts(scene: Scene, text: str) -> tuple[int, int]:
  """How many claims are wrong, and how many right."""
  so = [true for _, true in judge(scene, text)]
  return so.count(False), so.count(True)


def wrong_parts(mention: Mention, group: Group) -> list[Claim]:
  """What a mention would get wrong if it spoke of this group."""
  return [claim for claim in mention.claims if not holds(claim, group)]


def left_out(scene: Scene, text: str) -> list[Group]:
  """The groups whose kind a text does not mention."""
  told = {mention.kind for mention in mentions(text)}
  return [group for group in scene.groups if group.kind not in told]
