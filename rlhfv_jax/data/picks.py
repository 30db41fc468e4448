"""Picks: one of several wordings, the same for the same row for all time."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar('T')


def one_of(choices: Sequence[T], key: object) -> T:
  """By lot, which only the key decides."""
  drawn = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
  return choices[int.from_bytes(drawn, 'little') % len(choices)]
