"""The plan: every row once an epoch, equal on all processes, in few shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.data import plan

BUCKETS = [(32, 16, 2), (48, 16, 2), (64, 48, 2)]


def pairs(n: int = 500, seed: int = 0) -> np.ndarray:
  """Lengths of pairs: prompt with head, and two rests."""
  rng = np.random.default_rng(seed)
  return np.stack(
    [rng.integers(5, 64, n), rng.integers(1, 40, n), rng.integers(1, 40, n)], 1
  ).astype(np.int32)


def rows_of(batches) -> list[int]:
  return [int(i) for _, rows in batches for i in rows if i >= 0]


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('n, batch', [(500, 16), (16, 16), (1, 8), (333, 1)])
def test_every_row_once_an_epoch(n, batch, shuffle):
  lengths = pairs(n)
  options = {'buckets': BUCKETS, 'batch': batch}
  for epoch in range(3):
    batches = plan.plan(7, epoch, lengths, shuffle=shuffle, **options)
    assert sorted(rows_of(batches)) == list(range(n))
    assert len(batches) == plan.steps_per_epoch(lengths, **options)
    assert all(rows.shape == (batch,) for _, rows in batches)
    assert all(rows.dtype == np.int32 for _, rows in batches)


def test_a_row_is_in_the_smallest_bucket_that_holds_it():
  lengths = pairs()
  for bucket, rows in plan.plan(0, 0, lengths, buckets=BUCKETS, batch=8):
    for row in rows[rows >= 0]:
      trunk, *rest = lengths[row].tolist()
      holds = [b for b in BUCKETS if max(trunk - b[0], 0) + max(rest) <= b[1]]
      assert bucket == min(holds, key=plan.slots)


def test_only_the_last_batch_of_a_bucket_is_filled_up():
  lengths = pairs()
  batches = plan.plan(0, 0, lengths, buckets=BUCKETS, batch=16)
  for bucket in BUCKETS:
    gaps = [int((rows < 0).sum()) for b, rows in batches if b == bucket]
    assert sorted(gaps)[:-1] == [0] * (len(gaps) - 1) and max(gaps) < 16


def test_the_plan_is_a_function_of_seed_and_epoch():
  lengths = pairs()

  def order(seed, epoch):
    return rows_of(plan.plan(seed, epoch, lengths, buckets=BUCKETS, batch=16))

  assert order(1, 4) == order(1, 4)
  orders = [order(1, 4), order(1, 5), order(2, 4)]
  assert len(set(map(tuple, orders))) == 3


def test_the_order_is_fixed_for_all_time():
  """A resumed run meets the same rows; change nothing that changes these."""
  lengths = np.full((10, 2), [[4, 0]], np.int32)
  batches = plan.plan(3, 1, lengths, buckets=[(8, 0, 1)], batch=4)
  assert [rows.tolist() for _, rows in batches] == [
    [1, 0, 4, 5],
    [3, 6, 7, 8],
    [9, 2, -1, -1],
  ]


def test_shapes_alternate_through_the_epoch():
  batches = plan.plan(0, 0, pairs(2000), buckets=BUCKETS, batch=16)
  half = len(batches) // 2
  for part in (batches[:half], batches[half:]):
    assert {bucket for bucket, _ in part} == set(BUCKETS)


def test_without_shuffling_rows_come_in_order():
  lengths = np.full((9, 2), [[4, 0]], np.int32)
  batches = plan.plan(
    3, 1, lengths, buckets=[(8, 0, 1)], batch=4, shuffle=False
  )
  assert rows_of(batches) == list(range(9))


def test_a_rejected_row_is_in_no_batch():
  lengths = pairs(50)
  lengths[[3, 20]] = 0
  batches = plan.plan(0, 0, lengths, buckets=BUCKETS, batch=8)
  assert sorted(rows_of(batches)) == sorted(set(range(50)) - {3, 20})


def test_a_row_that_fits_nowhere_is_named():
  lengths = pairs(50)
  lengths[17] = [64, 49, 3]
  with pytest.raises(
    ValueError, match=r'1 rows fit no bucket, row 17 of lengths \[64, 49, 3\]'
  ):
    plan.plan(0, 0, lengths, buckets=BUCKETS, batch=8)


def test_a_prompt_stays_in_the_trunk():
  lengths = np.array([[40, 3, 4]], np.int32)
  ((bucket, _),) = plan.plan(0, 0, lengths, buckets=BUCKETS, batch=1)
  assert bucket == (32, 16, 2)
  for prompt, expected in ((32, (32, 16, 2)), (33, (48, 16, 2))):
    ((bucket, _),) = plan.plan(
      0, 0, lengths, buckets=BUCKETS, batch=1, prompts=np.array([prompt])
    )
    assert bucket == expected


@settings(max_examples=40, deadline=None)
@given(
  st.integers(0, 999),
  st.integers(1, 200),
  st.integers(1, 4),
  st.sampled_from([1, 8, 128]),
  st.booleans(),
)
def test_chosen_buckets_hold_all_rows(seed, n, at_most, multiple, alone):
  lengths = pairs(n, seed)
  if alone:
    lengths = np.stack([lengths[:, 0], 0 * lengths[:, 0]], 1)
  prompts = np.random.default_rng(seed).integers(1, lengths[:, 0] + 1)
  buckets, waste = plan.choose_buckets(
    lengths, at_most, multiple=multiple, prompts=prompts
  )
  assert 1 <= len(buckets) <= at_most
  for trunk, branch, answers in buckets:
    assert trunk % multiple == branch % multiple == 0
    assert answers == lengths.shape[1] - 1 and (branch == 0) == alone
  place = plan.assign(lengths, buckets, prompts=prompts)
  taken = np.array([plan.slots(b) for b in buckets])[place].sum()
  assert waste == pytest.approx(1 - lengths.sum() / taken)
  told = plan.padding(lengths, buckets, prompts=prompts)
  assert told == pytest.approx(waste)


def test_rows_that_fit_no_bucket_get_one_more():
  """As rows to be looked at may be longer than all that are trained on."""
  lengths = pairs()
  prompts = lengths[:, 0] // 2
  lengths[7] = prompts[7] = 0  # was rejected
  assert plan.with_room(lengths, BUCKETS, prompts=prompts) == BUCKETS
  lengths[3], prompts[3] = [200, 9, 90], 150
  lengths[5], prompts[5] = [90, 60, 9], 80
  buckets = plan.with_room(lengths, BUCKETS, prompts=prompts)
  assert buckets[:-1] == BUCKETS
  place = plan.assign(lengths, buckets, prompts=prompts)
  assert np.flatnonzero(place == len(BUCKETS)).tolist() == [3, 5]


def test_more_shapes_waste_less():
  lengths = pairs(2000)
  wastes = [plan.choose_buckets(lengths, k)[1] for k in (1, 2, 3, 5)]
  assert wastes == sorted(wastes, reverse=True)
  assert wastes[2] < wastes[0] - 0.1


def test_three_shapes_are_close_to_the_best_three():
  """Against all triples of trunks, for lone answers."""
  rng = np.random.default_rng(0)
  trunks = np.r_[rng.integers(10, 30, 300), rng.integers(90, 128, 100)]
  lengths = np.stack([trunks, 0 * trunks], 1)
  _, waste = plan.choose_buckets(lengths, 3, multiple=8)
  sizes = [s for s in range(8, 136, 8)]
  best = min(
    np.array([a, b, 128])[np.searchsorted([a, b, 128], trunks)].sum()
    for a in sizes
    for b in sizes
    if a < b < 128
  )
  assert waste <= 1 - trunks.sum() / best + 0.02


def test_rejected_rows_do_not_count_for_the_shapes():
  lengths = pairs(100)
  with_rejected = np.concatenate([lengths, np.zeros((50, 3), np.int32)])
  assert plan.choose_buckets(lengths) == plan.choose_buckets(with_rejected)
  with pytest.raises(ValueError, match='no rows'):
    plan.choose_buckets(np.zeros((5, 3), np.int32))
