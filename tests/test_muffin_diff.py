"""Muffin's diff, against what the original returned."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlhfv_jax.data.muffin_diff import roles

_GOLDEN = Path(__file__).parent / 'golden'
_PAIRS = json.loads((_GOLDEN / 'ddpo_diff_ids.json').read_text())['pairs']
_BATCHES = json.loads((_GOLDEN / 'ddpo_collator.json').read_text())['batches']


@pytest.mark.parametrize('pair', _PAIRS, ids=[pair['tag'] for pair in _PAIRS])
def test_the_same_tokens_are_corrected(pair):
  rejected, chosen = roles(
    pair['rejected'], pair['chosen'], min_match=pair['min_match_size']
  )
  assert rejected.dtype == chosen.dtype == np.int8
  assert (len(rejected), len(chosen)) == (
    len(pair['rejected']),
    len(pair['chosen']),
  )
  assert np.flatnonzero(rejected == 2).tolist() == pair['rej_mod_ids']
  assert np.flatnonzero(chosen == 2).tolist() == pair['win_mod_ids']


@pytest.mark.parametrize('batch', _BATCHES)
def test_the_same_token_weights_in_a_padded_batch(batch):
  """Rows are padded first and diffed then, so weights depend on the batch."""
  gamma, pad = batch['mod_token_weight'], batch['pad_token_id']
  rows = {
    name: _padded([row[name]['input_ids'] for row in batch['instances']], pad)
    for name in ('rejected', 'chosen')
  }
  for i, pair in enumerate(zip(rows['rejected'], rows['chosen'], strict=True)):
    rejected, chosen = roles(pair[0][1:], pair[1][1:])
    for side, got in (('rej', rejected), ('win', chosen)):
      want = batch['expected'][f'{side}_token_weight'][i]
      np.testing.assert_allclose(np.where(got == 2, gamma, 1), want, atol=1e-6)


@pytest.mark.parametrize(
  'bad, good, want',
  [
    ([1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 4, 5, 6], ([], [])),
    ([1, 2, 3, 7, 8], [1, 2, 3, 9, 8], ([3, 4], [3, 4])),
    ([1, 2, 3, 4, 5, 6], [4, 5, 6, 1, 2, 3], ([], [])),
    ([1, 2], [1, 2], ([0, 1], [0, 1])),
  ],
  ids=['insertion', 'short tail', 'moved block', 'short row'],
)
def test_its_corner_cases(bad, good, want):
  assert (
    tuple(np.flatnonzero(r == 2).tolist() for r in roles(bad, good)) == want
  )


def _padded(rows, pad):
  length = max(map(len, rows))
  return [row + [pad] * (length - len(row)) for row in rows]
