"""Many rows cost disk, not memory: no process has a copy of them."""

import pytest
from bench_scale import both


@pytest.mark.slow
def test_workers_keep_no_copy_of_the_data(tmp_path):
  """Four times the rows, 190 MB of them, in the same memory.

  What a worker may keep is some 30 MB of row groups, which both fill, and the
  plan: a few numbers a row. Of two workers one may have 60 MB more than the
  other, whatever the rows; a copy of the data both would have.
  """
  few, many = (both(rows, tmp_path) for rows in (4_000, 16_000))
  grown = min(many['workers']) - min(few['workers'])
  assert grown < 15, (few, many)
  assert many['here'][0] - few['here'][0] < 30
