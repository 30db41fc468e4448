"""Processes of their own read the same batches together as one does alone."""

import numpy as np
import pytest
from reading import EPOCHS, ROWS, read
from test_hosts import run

from rlhfv_jax import files

READING = ['tests/reading.py']


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """All batches, as one process reads them."""
  return read(tmp_path_factory.mktemp('whole'), 0, 10**6, 0)


def together(folder, processes, start, stop, workers=0):
  """The global batches, from what each of the processes had of them."""
  run(processes, str(folder), str(start), str(stop), str(workers),
      module=READING)  # fmt: skip
  each = [files.read_json(folder / f'{start}-{p}.json')
          for p in range(processes)]  # fmt: skip
  joined = []
  for parts in zip(*each, strict=True):
    assert all(part['bucket'] == parts[0]['bucket'] for part in parts)
    joined.append(parts[0] | {
      name: [x for part in parts for x in part[name]]
      for name in ('index', 'looks')
    })  # fmt: skip
  return joined


def test_every_row_is_there_once_an_epoch(whole):
  steps = len(whole) // EPOCHS
  for epoch in range(EPOCHS):
    read_ = whole[epoch * steps : (epoch + 1) * steps]
    index = np.concatenate([batch['index'] for batch in read_])
    assert sorted(index[index >= 0]) == list(range(ROWS))


def test_two_processes_with_a_worker_each_read_what_one_does(whole, tmp_path):
  assert together(tmp_path, 2, 0, len(whole), workers=1) == whole


def test_two_go_on_where_four_stopped_in_the_middle_of_an_epoch(
  whole, tmp_path
):
  stop = len(whole) // EPOCHS + 2
  found = together(tmp_path, 4, 0, stop)
  found += together(tmp_path, 2, stop, len(whole))
  assert found == whole
