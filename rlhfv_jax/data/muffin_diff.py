"""Muffin's token diff, as the released RLHF-V training weighs tokens.

For reproduction only. It takes the ids of whole padded rows, so the prompt, the
template and the padding of the batch take part in the diff; `segments` is what
everything else uses.
"""

import difflib
from collections.abc import Sequence

import numpy as np


def roles(
  rejected_ids: Sequence[int], chosen_ids: Sequence[int], min_match: int = 3
) -> tuple[np.ndarray, np.ndarray]:
  """i8 roles of both rows, rejected first: 2 corrected, 1 unchanged.

  Matches of fewer than `min_match` tokens are taken for differences, and a
  difference counts only where both rows have tokens: pure insertions and
  deletions do not. In rows of 200 tokens and more, frequent tokens cannot seed
  a match (difflib's autojunk).
  """
  rejected_ids, chosen_ids = list(rejected_ids), list(chosen_ids)
  rejected = np.ones(len(rejected_ids), np.int8)
  chosen = np.ones(len(chosen_ids), np.int8)
  matcher = difflib.SequenceMatcher(None, rejected_ids, chosen_ids)
  *blocks, end = matcher.get_matching_blocks()
  i = j = 0
  for block in [b for b in blocks if b.size >= min_match] + [end]:
    if i < block.a and j < block.b:
      rejected[i : block.a] = 2
      chosen[j : block.b] = 2
    i, j = block.a + block.size, block.b + block.size
  return rejected, chosen
