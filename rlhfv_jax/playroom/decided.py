"""Whether facts alone tell two answers apart, or the picture has to."""

from __future__ import annotations

from collections.abc import Sequence

from rlhfv_jax.playroom.claims import Claim, parse


def decided(facts: Sequence[str], a: str, b: str) -> bool:
  """Whether the facts speak of anything that only one of the answers claims.

  Who knows nothing but the facts could then see that such a claim is right, or
  that it is wrong; of other claims he can only guess.
  """
  known = [claim for fact in facts for claim in parse(fact)]
  said = [{_key(claim): claim for claim in parse(text)} for text in (a, b)]
  apart = said[0].keys() ^ said[1].keys()
  claims = [said[0].get(key) or said[1][key] for key in apart]
  return any(_spoken_of(claim, known) for claim in claims)


def _key(claim: Claim) -> tuple:
  return claim.category, claim.kind, claim.value


def _spoken_of(claim: Claim, known: Sequence[Claim]) -> bool:
  """The facts tell this of its kind, or put something else in its place."""
  for fact in known:
    if fact.category == claim.category and fact.kind == claim.kind:
      return True
    both_places = fact.category == claim.category == 'position'
    if both_places and fact.value == claim.value:
      return True
  return False
