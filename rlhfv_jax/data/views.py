"""Views: K looks at each picture are K rows, each with pixels of its own.

A view has a name, and its pixels are a function of that. So the policy and the
cached reference see the same ones, in any process and in any epoch.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rlhfv_jax.data.rows import Rows


def digest(encoded: bytes | None) -> str | None:
  """Names a picture by its encoded bytes."""
  return encoded and hashlib.blake2b(encoded, digest_size=16).hexdigest()


def name(
  encoded: bytes | None, *, augment: str = 'none', seed: int = 0, view: int = 0
) -> str | None:
  """Names a look at a picture: which, and what random numbers change it."""
  known = digest(encoded)
  if known is None or augment == 'none':
    return known
  return f'{known}-{augment}-{seed}-{view}'


def roll(name: str) -> Callable[[], float]:
  """The random numbers of a view, [0, 1), always the same ones in order."""
  key = hashlib.blake2b(name.encode(), digest_size=16).digest()
  # Raw bits, which no numpy release may change.
  bits = np.random.Philox(key=int.from_bytes(key, 'little'))
  return lambda: (int(bits.random_raw()) >> 11) * 2.0**-53


def repeat(rows: Rows, views: int) -> Rows:
  """Each row `views` times: row i + kN is view k of row i of N.

  The tokens are not copied. A row that cannot be used is listed once.
  """
  return replace(
    rows,
    sizes=np.tile(rows.sizes, (views, 1)),
    heads=np.tile(rows.heads, views),
    starts=np.tile(rows.starts, (views, 1)),
    pictures=np.tile(rows.pictures, (views, 1)),
    ids=rows.ids * views,
  )
