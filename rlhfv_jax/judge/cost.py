"""What the judge will cost, said before it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CHARACTERS = 4  # a token, in English
LENGTH = 512  # tokens of a reply, where the request has no limit


def tokens(bodies: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
  """About how many go in, and at most how many come out."""
  into = out = 0
  for body in bodies:
    into += sum(len(m['content']) for m in body['messages']) // CHARACTERS + 1
    out += body.get('max_tokens') or body.get('max_completion_tokens') or LENGTH
  return into, out


def told(bodies: Iterable[Mapping[str, Any]], judge: Any) -> str:
  """The estimate as a sentence; money where there are prices."""
  bodies = list(bodies)
  into, out = tokens(bodies)
  text = (
    f'{len(bodies)} requests to {judge.model}: about {into:,} tokens in, at '
    f'most {out:,} out'
  )
  if judge.price_in or judge.price_out:
    most = (into * judge.price_in + out * judge.price_out) / 1e6
    return f'{text}, at most {most:.2f} at {judge.price_in:g} and {judge.price_out:g} a million'  # noqa: E501
  return text
