"""Pictures of a source: their views, their names, and which stay decoded."""

import pickle

import numpy as np
import pytest
from test_images import JPEG, PNG, encoded, noise

from rlhfv_jax.data import images
from rlhfv_jax.data.rows import Example, RowError


def test_a_view_is_the_same_wherever_it_is_looked_at():
  rows = [example('a', encoded(noise(40, 30)))]
  here = images.Pictures(rows, 16, augment='untrusted', seed=3, views=4)
  there = pickle.loads(pickle.dumps(here))
  for k in (3, 1, 0, 2):
    np.testing.assert_array_equal(here[k], there[k])
    assert here.name(k) == there.name(k)
  other = images.Pictures(rows, 16, augment='untrusted', seed=4, views=4)
  looks = {p[k].tobytes() for p in (here, other) for k in range(4)}
  assert len(looks) == 8
  assert len({p.name(k) for p in (here, other) for k in range(4)}) == 8


def test_views_of_a_picture_do_not_hang_on_its_row():
  """So that a filtered or shuffled source keeps its cached reference."""
  a, b = (example(n, encoded(noise(40, w))) for n, w in (('a', 30), ('b', 20)))
  one, two = (
    images.Pictures(rows, 16, augment='untrusted', views=2)
    for rows in ([a, b], [b])
  )
  np.testing.assert_array_equal(one[1], two[0])
  np.testing.assert_array_equal(one[3], two[1])
  assert (one.name(1), one.name(3)) == (two.name(0), two.name(1))


def test_one_plain_view_is_named_by_the_picture():
  pictures = images.Pictures([example('a', PNG), example('none', None)], 8)
  assert pictures.name(0) == images.digest(PNG)
  assert pictures.name(1) is None


def test_views_that_are_all_alike_are_refused():
  with pytest.raises(ValueError, match='3 views of pictures that nothing cha'):
    images.Pictures([example('a', PNG)], 8, views=3)


def example(name: str, image: bytes | None) -> Example:
  return Example(name, image, (('user', 'what?'),))


@pytest.mark.parametrize('cache_bytes', [0, 2**30])
def test_a_broken_picture_of_a_source_is_named_by_its_row(cache_bytes):
  rows = [example('good', PNG), example('bad', PNG[:99])]
  pictures = images.Pictures(rows, 8, cache_bytes=cache_bytes)
  assert pictures[0].any()
  with pytest.raises(RowError, match=r'row 1 \(bad\): 99 bytes'):
    pictures[1]


class Counted(list):
  """Examples that count how often they are asked for."""

  asked = 0

  def __getitem__(self, index):
    self.asked += 1
    return super().__getitem__(index)


def test_few_pictures_are_decoded_once_and_many_each_time():
  for cache_bytes, expected in ((8 * 8 * 3 * 2, 2), (8 * 8 * 3 * 2 - 1, 4)):
    rows = Counted([example('a', PNG), example('none', None)])
    pictures = images.Pictures(rows, 8, cache_bytes=cache_bytes)
    first = [pictures[0].copy(), pictures[1].copy()]
    np.testing.assert_array_equal(first[0], pictures[0])
    assert not pictures[1].any()
    assert rows.asked == expected


def test_a_worker_is_not_sent_the_pictures_that_are_kept():
  pictures = images.Pictures([example('a', PNG)] * 3, 512)
  pictures[0]
  sent = pickle.dumps(pictures)
  assert len(sent) < 2 * len(PNG) + 1000
  np.testing.assert_array_equal(pickle.loads(sent)[1], pictures[1])


def test_a_digest_names_the_bytes():
  assert images.digest(PNG) == images.digest(bytes(PNG))
  assert images.digest(PNG) != images.digest(JPEG)
  assert images.digest(None) is None
