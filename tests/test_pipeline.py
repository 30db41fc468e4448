"""The same rows in the same order, whoever reads them and since when."""

import contextlib
import io
import pickle
import threading
import time

import numpy as np
import pytest
from PIL import Image
from test_rows_batch import random_rows

from rlhfv_jax.data import images, pipeline, plan, sources
from rlhfv_jax.data.rows import Example, RowError, lengths, prompts, row

N, BATCH, EPOCHS = 45, 8, 3


def picture(i: int) -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (8, 8), (i, 255 - i, 7)).save(file, 'PNG')
  return file.getvalue()


def example(i: int) -> Example:
  return Example(f'{i}', picture(i), (('user', 'what?'),))


_, ROWS = random_rows(0, 2, n=N)
BUCKETS, _ = plan.choose_buckets(lengths(ROWS), 3, prompts=prompts(ROWS))
PICTURES = images.Pictures([example(i) for i in range(N)], 8)
SHAPES = {'buckets': BUCKETS, 'batch': BATCH}
STEPS = plan.steps_per_epoch(lengths(ROWS), **SHAPES, prompts=prompts(ROWS))


def batches(pictures=PICTURES, **options):
  options = {'seed': 1, 'epochs': EPOCHS, **SHAPES} | options
  return pipeline.batches(ROWS, pictures, **options)


def readers(processes):
  """One for each process: a global batch in equal parts."""
  parts = np.arange(BATCH).reshape(processes, -1)
  return [batches(here=part) for part in parts]


def equal(mine, theirs) -> bool:
  assert mine[0] == theirs[0]
  assert mine[1].keys() == theirs[1].keys()
  for name, array in mine[1].items():
    assert array.dtype == theirs[1][name].dtype
    np.testing.assert_array_equal(array, theirs[1][name])
  return True


def joined(parts):
  """The global batch, from what each process has of it."""
  buckets, arrays = zip(*parts, strict=True)
  assert len(set(buckets)) == 1
  names = arrays[0].keys()
  return buckets[0], {n: np.concatenate([a[n] for a in arrays]) for n in names}


WHOLE = list(batches())


@pytest.mark.parametrize('processes', [1, 2, 4, 8])
def test_every_row_once_an_epoch_on_any_number_of_processes(processes):
  seen = []
  each = zip(*readers(processes), strict=True)
  for parts, whole in zip(each, WHOLE, strict=True):
    together = joined(parts)
    assert equal(together, whole)
    seen.append(together[1]['index'])
  assert len(seen) == EPOCHS * STEPS
  for epoch in range(EPOCHS):
    index = np.concatenate(seen[epoch * STEPS : (epoch + 1) * STEPS])
    assert sorted(index[index >= 0]) == list(range(N))


def test_epochs_differ():
  first = [b['index'].tolist() for _, b in WHOLE[:STEPS]]
  second = [b['index'].tolist() for _, b in WHOLE[STEPS : 2 * STEPS]]
  assert first != second


def test_a_picture_is_its_rows_and_a_filler_row_is_black():
  filled = 0
  for _, batch in WHOLE:
    for index, pixels in zip(batch['index'], batch['images'], strict=True):
      colour = (0, 0, 0) if index < 0 else (index, 255 - index, 7)
      assert (pixels == colour).all()
      filled += index < 0
  assert filled


@pytest.mark.parametrize('step', [0, 1, STEPS - 1, STEPS, 2 * STEPS + 3])
@pytest.mark.parametrize('processes', [1, 2])
def test_a_run_goes_on_where_it_stopped_on_other_processes(step, processes):
  with contextlib.closing(batches()) as before:
    for _ in range(step):
      next(before)
    state = before.get_state()
  assert state == {'step': step}
  after = readers(processes)
  for reader in after:
    reader.set_state(state)
  rest = [joined(parts) for parts in zip(*after, strict=True)]
  assert all(map(equal, rest, WHOLE[step:])) and len(rest) == len(WHOLE) - step
  started = list(batches(start_step=step))
  assert all(map(equal, started, rest)) and len(started) == len(rest)


def test_a_reader_can_be_set_back():
  with contextlib.closing(batches()) as reader:
    next(reader), next(reader)
    reader.set_state({'step': np.int64(1)})
    assert equal(next(reader), WHOLE[1])
    assert reader.get_state() == {'step': 2}


def lookup(index: int):
  return [
    np.full((r > 0).sum(), index + 1, np.float32)
    for r in row(ROWS, index).roles
  ]


@pytest.mark.parametrize('workers, again', [(1, False), (2, True)])
def test_workers_change_nothing(workers, again, tmp_path):
  sources.write(tmp_path / 'a.parquet', map(example, range(N)))
  pictures = images.Pictures(sources.read(tmp_path / 'a.parquet'), 8)
  options = {'extras': {'ref_logps': lookup}}
  alone = list(batches(pictures, **options))
  assert (alone[0][1]['ref_logps'].max(1) == alone[0][1]['index'] + 1).all()
  with contextlib.closing(
    batches(pictures, workers=workers, start_step=2, **options)
  ) as reader:
    found = list(reader)
    assert len(found) == len(alone) - 2 and all(map(equal, found, alone[2:]))
    assert all(type(x) is np.ndarray for _, b in found for x in b.values())
    if again:
      reader.set_state({'step': 1})
      assert equal(next(reader), alone[1])


def test_a_worker_is_sent_the_plan_and_the_names_of_files(tmp_path):
  """No tokens and nothing that belongs to them, however much there is."""
  sources.write(tmp_path / 'a.parquet', map(example, range(N)))
  pictures = images.Pictures(sources.read(tmp_path / 'a.parquet'), 8)
  pictures[0]
  values = [np.zeros(10_000) for _ in range(N)]
  with contextlib.closing(
    batches(pictures, extras={'ref_logps': lambda i: values[i]})
  ) as reader:
    next(reader)
    sent = pickle.dumps(reader.items.shown)
  # Lengths and prompts, 4 bytes a number, and names.
  assert len(sent) < 4 * (lengths(ROWS).size + N) + 2000
  again = pickle.loads(sent)
  for step in (0, STEPS + 1):
    np.testing.assert_array_equal(again[step], WHOLE[step][1]['images'])


@pytest.mark.parametrize('counts', [(2, 4), (4, 1), (1, 2), (8, 2)])
def test_rows_of_an_epoch_over_a_change_of_processes(counts):
  """Stopped in the middle of the second epoch: none twice and none lost."""
  seen, state = [], {'step': 0}
  for count, stop in zip(counts, (STEPS + 2, EPOCHS * STEPS), strict=True):
    each = readers(count)
    for reader in each:
      reader.set_state(state)
    while each[0].get_state()['step'] < stop:
      seen.append(np.concatenate([next(r)[1]['index'] for r in each]))
    state = each[-1].get_state()
    for reader in each:
      assert reader.get_state() == state
      reader.close()
  for epoch in range(EPOCHS):
    index = np.concatenate(seen[epoch * STEPS : (epoch + 1) * STEPS])
    assert sorted(index[index >= 0]) == list(range(N))


@pytest.mark.parametrize('threads', [1, 4])
def test_threads_change_nothing(threads):
  found = list(batches(threads=threads))
  assert len(found) == len(WHOLE) and all(map(equal, found, WHOLE))


def test_rows_without_pictures_have_no_images():
  _, batch = next(batches(None))
  assert sorted(batch) == ['index', 'lengths', 'roles', 'tokens']
  _, batch = next(batches(None, read=True))
  assert 'read' in batch


def test_in_order_for_evaluation():
  seen = [b['index'] for _, b in batches(shuffle=False, epochs=1)]
  seen = np.concatenate(seen)
  order = plan.assign(lengths(ROWS), BUCKETS, prompts=prompts(ROWS))
  assert seen[seen >= 0].tolist() == np.argsort(order, kind='stable').tolist()


def test_a_broken_picture_names_its_row_from_inside_the_pipeline():
  rows = [example(i) for i in range(N)]
  rows[7] = Example('seven', b'no picture', (('user', 'what?'),))
  reader = batches(images.Pictures(rows, 8))
  with (
    contextlib.closing(reader),
    pytest.raises(RowError, match=r'row 7 \(seven\): 10 bytes'),
  ):
    list(reader)


def test_a_closed_reader_leaves_no_threads():
  before = threading.active_count()
  for _ in range(3):
    reader = batches()
    next(reader)
    reader.close()
    reader.close()
  for _ in range(100):
    time.sleep(0.01 * (threading.active_count() > before))
  assert threading.active_count() <= before, threading.enumerate()
