"""The feed gives batches in order, and its state counts what it gave."""

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import EPOCHS, STEPS, WHOLE, batches, example

from rlhfv_jax import sharding
from rlhfv_jax.data import images
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.feed import AHEAD, DataFeed

MESH = sharding.make_mesh((1, -1, 1))


def feed(**options) -> DataFeed:
  return DataFeed(batches(), MESH, **options)


def equal(batch, item) -> bool:
  bucket, arrays = item
  assert batch.bucket == bucket and batch.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(batch[name], array)
  return True


def test_it_hands_over_the_pipelines_batches():
  with contextlib.closing(feed()) as read:
    for item in WHOLE:
      assert equal(read(None), item)
    with pytest.raises(StopIteration):
      read(None)


@pytest.mark.parametrize('step', [0, 1, STEPS, EPOCHS * STEPS - 1])
def test_a_state_counts_what_was_handed_over(step):
  with contextlib.closing(feed()) as read:
    for _ in range(step):
      read(None)
    time.sleep(0.05)  # for what is read ahead
    state = read.get_state()
    assert state == {'step': step}
  with contextlib.closing(feed()) as again:
    again.set_state(state)
    assert again.get_state() == state
    assert equal(again(None), WHOLE[step])
    again.set_state({'step': np.array(0)})
    assert equal(again(None), WHOLE[0])


def test_arrays_are_prepared_before_they_leave():
  told = lambda arrays: {'index': arrays['index'] + 1000}
  with contextlib.closing(feed(prepare=told)) as read:
    batch = read(None)
  assert set(batch) == {'index'}
  np.testing.assert_array_equal(batch['index'], WHOLE[0][1]['index'] + 1000)


def test_a_broken_picture_is_told_at_its_own_batch():
  broken = int(WHOLE[1][1]['index'].max())
  rows = [example(i) for i in range(45)]
  rows[broken] = Example('x', b'no picture', (('user', 'what?'),))
  read = DataFeed(batches(images.Pictures(rows, 8)), MESH)
  with contextlib.closing(read):
    assert equal(read(None), WHOLE[0])
    time.sleep(0.05)
    assert read.get_state() == {'step': 1}
    for _ in range(2):  # and at no other, however often it is asked for
      with pytest.raises(RowError, match=rf'row {broken} \(x\)'):
        read(None)
      assert read.get_state() == {'step': 1}


def settled(value, *, expected) -> bool:
  """Whether it comes to be, in a second, what is expected."""
  for _ in range(100):
    if value() == expected:
      break
    time.sleep(0.01)
  time.sleep(0.05)
  return value() == expected


def test_batches_are_made_before_they_are_asked_for_and_no_more_than_few():
  source = batches()
  made = lambda: source.get_state()['step']
  with contextlib.closing(DataFeed(source, MESH)) as read:
    assert made() == 0
    for step in range(1, 4):
      read(None)
      assert settled(made, expected=step + AHEAD)


@pytest.mark.parametrize('end', [DataFeed.close, lambda read: None])
def test_a_feed_that_is_closed_or_forgotten_leaves_no_threads(end):
  before = threading.active_count()
  for _ in range(3):
    read = feed()
    read(None)
    end(read)
  del read
  assert settled(lambda: threading.active_count() <= before, expected=True)


def test_a_program_ends_whose_feed_nobody_closed():
  said = 'from test_feed import feed; read = feed(); read(None); read(None)'
  here = Path(__file__).parent
  subprocess.run([sys.executable, '-c', said], cwd=here, timeout=60, check=True)
