"""What is alike: near duplicates among many, without comparing all with all.

Candidates are those that agree in all of some band of their signature; only
candidates are compared. Two of likeness s agree in a band of k parts with
chance s^k, so a few bands miss nothing that is much alike.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_WORD = re.compile(r'\w+')
_SHINGLE = 3
ALIKE_TEXTS = 0.9
_PARTS, _BANDS = 128, 16
# Past so many in one band, each is compared with its next neighbours only.
_CROWD = 32
_SEEDS = np.random.Philox(20231201).random_raw(2 * _PARTS).reshape(2, _PARTS)
_ODD = _SEEDS[0] | np.uint64(1)


def signature(text: str) -> np.ndarray:
  """u32[128]: the part of it that two texts share estimates their likeness.

  Likeness is the share of three-word runs that two texts have in common
  (MinHash: Broder, 1997).
  """
  words = _WORD.findall(text.casefold())
  runs = {
    zlib.crc32(' '.join(words[i : i + _SHINGLE]).encode('utf-8', 'replace'))
    for i in range(max(len(words) - _SHINGLE + 1, 1))
  }
  hashed = np.fromiter(runs, np.uint64, len(runs))[:, None] * _ODD + _SEEDS[1]
  return (hashed >> np.uint64(32)).astype(np.uint32).min(axis=0)


def texts(signatures: np.ndarray) -> np.ndarray:
  """i64[K,2]: pairs of rows of u32[N,128] whose texts are alike."""

  def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (signatures[a] == signatures[b]).mean(axis=1) >= ALIKE_TEXTS

  table = np.ascontiguousarray(signatures).view(np.uint8)
  return _pairs(table, alike)


def pictures(fingerprints: Sequence[bytes], *, within: int) -> np.ndarray:
  """i64[K,2]: pairs of fingerprints of 256 bits that differ in few of them."""
  table = np.frombuffer(b''.join(fingerprints), np.uint8).reshape(-1, 32)

  def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(table[a] ^ table[b]).sum(axis=1) <= within

  return _pairs(table, alike)


Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _pairs(table: np.ndarray, alike: Alike) -> np.ndarray:
  """Candidates of all bands of u8[N,W] that `alike` confirms, each once."""
  width = table.shape[1] // _BANDS
  found = [np.zeros((0, 2), np.int64)]
  for start in range(0, table.shape[1], width):
    for a, b in _candidates(np.roll(table, -start, axis=1), width):
      sure = alike(a, b)
      found.append(np.stack([a[sure], b[sure]], axis=1))
  return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _candidates(
  table: np.ndarray, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pairs that agree in the first bytes, and are near once all is sorted."""
  whole = np.ascontiguousarray(table).view(f'S{table.shape[1]}').ravel()
  order = np.argsort(whole, kind='stable')
  band = table[order, :width]
  run = np.cumsum((band[1:] != band[:-1]).any(axis=1))
  run = np.concatenate([np.zeros(1, run.dtype), run])[: len(order)]
  for gap in range(1, _CROWD):
    same = np.flatnonzero(run[:-gap] == run[gap:])
    if not len(same):
      return
    yield order[same], order[same + gap]


def groups(pairs: np.ndarray, n: int) -> np.ndarray:
  """i64[n]: the least number that each of n is linked to by pairs."""
  group = np.arange(n)
  while len(pairs):
    least = group[pairs].min(axis=1)
    before = group.copy()
    np.minimum.at(group, pairs[:, 0], least)
    np.minimum.at(group, pairs[:, 1], least)
    group = group[group]
    if (group == before).all():
      break
  return group
