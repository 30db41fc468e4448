"""Rows become batches: no token is lost, and what is cached comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rows import CHAT, PAIR, made

from rlhfv_jax import batch as device_batch
from rlhfv_jax.data import plan
from rlhfv_jax.data.encode import within
from rlhfv_jax.data.rows import (
  Row,
  assemble,
  gather,
  lengths,
  pack,
  prompts,
  row,
)


def random_rows(seed: int, answers: int, n: int = 7):
  """Rows of random lengths, as pairs and lone answers have them."""
  rng = np.random.default_rng(seed)

  def one():
    prompt = rng.integers(1, 99, rng.integers(1, 9)).astype(np.int32)
    head = rng.integers(1, 99, rng.integers(0, 9)).astype(np.int32)
    rests = [
      np.r_[100 + c, rng.integers(1, 99, rng.integers(0, 6))].astype(np.int32)
      for c in range(answers)
    ]
    paths = tuple(np.r_[head, rest].astype(np.int32) for rest in rests)
    shared = rng.integers(0, 3, len(prompt) + len(head))
    roles = tuple(
      np.r_[shared, rng.integers(0, 3, len(rest))].astype(np.int8)
      for rest in rests
    )
    return Row(
      prompt, paths, roles, len(head) if answers > 1 else len(paths[0])
    )

  made = [one() for _ in range(n)]
  return made, pack(made, [str(i) for i in range(n)])


@st.composite
def cases(draw):
  answers = draw(st.sampled_from([1, 2, 3]))
  made, rows = random_rows(draw(st.integers(0, 10**6)), answers)
  sizes = lengths(rows)
  if answers == 1:
    bucket = (int(sizes[:, 0].max()) + draw(st.integers(0, 3)), 0, 1)
  else:
    # From the shortest trunk that holds the prompts: the fork comes early.
    least = int(rows.sizes[:, 0].max())
    trunk = draw(st.integers(least, int(sizes[:, 0].max()) + 2))
    rest = np.maximum(sizes[:, 0] - trunk, 0) + sizes[:, 1:].max(1)
    bucket = (trunk, int(rest.max()) + draw(st.integers(0, 3)), answers)
  indices = draw(
    st.lists(st.integers(-1, len(made) - 1), min_size=1, max_size=9)
  )
  return made, rows, bucket, np.array(indices)


def path_slots(batch, bucket, b, answer):
  """The slots of a path, found as the model does: by each one's parent."""
  sizes = batch['lengths'][b : b + 1]
  shape = device_batch.Bucket(*bucket)
  parent, position, _ = map(np.asarray, device_batch.layout(sizes, shape))
  if sizes[0, 1 + answer]:
    slot = shape.trunk + answer * shape.branch + sizes[0, 1 + answer] - 1
  else:
    slot = sizes[0, 0] - 1
  slots = []
  while slot >= 0:
    slots.insert(0, int(slot))
    slot = parent[0, slot]
    assert slot < slots[0], 'a parent comes earlier'
  np.testing.assert_array_equal(position[0, slots], np.arange(len(slots)))
  return slots


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_batch_holds_every_path_whole(case):
  made, rows, bucket, indices = case
  batch = assemble(rows, indices, bucket, read=True)
  for b, index in enumerate(indices):
    if index < 0:
      continue
    for c in range(bucket[2]):
      slots = path_slots(batch, bucket, b, c)
      np.testing.assert_array_equal(
        batch['tokens'][b, slots], made[index].path(c)
      )
      np.testing.assert_array_equal(
        batch['roles'][b, c, slots], made[index].roles[c]
      )
      assert batch['read'][b, c] == slots[-1]
      # Roles stand on the path and nowhere else.
      assert (batch['roles'][b, c] > 0).sum() == (
        made[index].roles[c] > 0
      ).sum()


def test_types_are_as_the_batch_says():
  _, rows = random_rows(0, 2)
  bucket = (20, 20, 2)
  extras = {
    'ref_logps': lambda i: [
      np.zeros((r > 0).sum(), np.float32) for r in row(rows, i).roles
    ]
  }
  batch = assemble(rows, np.array([0, -1, 2]), bucket, extras=extras)
  assert {k: (v.dtype.name, v.shape) for k, v in batch.items()} == {
    'tokens': ('int32', (3, 60)),
    'lengths': ('int32', (3, 3)),
    'roles': ('int8', (3, 2, 60)),
    'index': ('int32', (3,)),
    'ref_logps': ('float32', (3, 60)),
  }


def test_an_empty_row_is_empty():
  _, rows = random_rows(0, 2)
  batch = assemble(rows, np.array([-1, 3]), (20, 20, 2))
  for name in ('tokens', 'lengths', 'roles'):
    assert not batch[name][0].any() and batch[name][1].any()
  assert batch['index'].tolist() == [-1, 3]


def test_a_lone_answer_lives_in_the_trunk():
  rows = pack([made(CHAT)], ['a'])
  batch = assemble(rows, np.array([0]), (64, 0, 1))
  assert batch['lengths'].tolist() == [[len(made(CHAT).path(0)), 0]]


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_cache_comes_back_from_any_bucket(case):
  made, rows, bucket, indices = case
  # A value for a token is a function of its path so far, as log-probs are.
  cache = [
    [
      (1 + np.cumsum(one.path(c))[one.roles[c] > 0]).astype(np.float32)
      for c in range(bucket[2])
    ]
    for one in made
  ]
  batch = assemble(rows, indices, bucket, extras={'x': cache.__getitem__})
  scored = (batch['roles'] > 0).any(axis=1)
  assert (batch['x'][~scored] == 0).all() and (batch['x'][scored] != 0).all()
  found = gather(batch['x'], rows, indices, bucket)
  kept = indices[indices >= 0]
  assert len(found) == len(kept)
  for index, answers in zip(kept, found, strict=True):
    for mine, theirs in zip(cache[index], answers, strict=True):
      np.testing.assert_array_equal(mine, theirs)


def test_values_of_shared_tokens_are_those_of_the_first_answer():
  made, rows = random_rows(3, 2)
  one = made[0]
  extras = {
    'x': lambda i: [
      np.full((r > 0).sum(), 1.0 + c) for c, r in enumerate(made[i].roles)
    ]
  }
  bucket = (len(one.prompt) + one.head, 20, 2)
  batch = assemble(rows, np.array([0]), bucket, extras=extras)
  trunk = batch['x'][0, : bucket[0]]
  assert set(trunk[batch['roles'][0, 0, : bucket[0]] > 0]) <= {1.0}
  assert set(batch['x'][0, bucket[0] + 20 :]) <= {0.0, 2.0}


def test_a_bucket_too_small_is_an_error_with_its_numbers():
  rows = pack([made(PAIR)], ['a'])
  prompt = int(prompts(rows)[0])
  with pytest.raises(
    ValueError, match=rf'prompt of {prompt} .*\({prompt - 1}, 90'
  ):
    assemble(rows, np.array([0]), (prompt - 1, 90, 2))
  with pytest.raises(ValueError, match=r'after the fork .*\(90, 3, 2\)'):
    assemble(rows, np.array([0]), (90, 3, 2))
  with pytest.raises(
    ValueError, match='for 1 answers a row, these rows have 2'
  ):
    assemble(rows, np.array([0]), (90, 0, 1))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_what_the_plan_says_fits_fits(case):
  """`plan.fits` and `assemble` agree, row by row, on small buckets too."""
  _, rows, (trunk, branch, answers), _ = case
  for bucket in {
    (trunk, branch, answers),
    (trunk - 2, max(branch - 2, 0), answers),
  }:
    held = plan.fits(lengths(rows), bucket, prompts=prompts(rows))
    for index, fits in enumerate(held):
      if fits:
        assemble(rows, np.array([index]), bucket)
      else:
        with pytest.raises(ValueError, match='does not fit'):
          assemble(rows, np.array([index]), bucket)
    kept = within(rows, [bucket])
    assert kept.kept == held.sum() and len(kept.rejected) == (~held).sum()
