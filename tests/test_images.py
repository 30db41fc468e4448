"""Pictures of every kind arrive as they were meant, or say what is wrong."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import images
from rlhfv_jax.data.rows import Example, RowError

# Pillow warns of large pictures, which are refused here, by a check of ours.
pytestmark = pytest.mark.filterwarnings(
  'ignore::PIL.Image.DecompressionBombWarning'
)


def encoded(picture: Image.Image, kind: str = 'PNG', **options) -> bytes:
  file = io.BytesIO()
  picture.save(file, kind, **options)
  return file.getvalue()


def test_a_picture_of_the_size_is_untouched():
  pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
  found = images.load(encoded(Image.fromarray(pixels)), 16)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, pixels)


def test_squash_keeps_what_is_where():
  halves = Image.new('RGB', (60, 20), 'red')
  halves.paste('blue', (30, 0, 60, 20))
  found = images.load(encoded(halves), 8)
  assert found.shape == (8, 8, 3)
  assert (found[:, 0] == [255, 0, 0]).all()
  assert (found[:, -1] == [0, 0, 255]).all()


@pytest.mark.parametrize(
  'picture, colour',
  [
    (Image.new('L', (4, 4), 100), (100, 100, 100)),
    (Image.new('1', (4, 4), 1), (255, 255, 255)),
    (Image.new('RGB', (4, 4), (9, 8, 7)).quantize(), (9, 8, 7)),
    (Image.new('RGBA', (4, 4), (9, 8, 7, 255)), (9, 8, 7)),
    (Image.new('RGBA', (4, 4), (9, 8, 7, 0)), (255, 255, 255)),
    (Image.new('LA', (4, 4), (9, 0)), (255, 255, 255)),
    (Image.fromarray(np.full((4, 4), 200 * 256 + 5, np.uint16)), (200,) * 3),
  ],
  ids=['grey', 'bits', 'palette', 'opaque', 'clear', 'clear grey', '16 bits'],
)
def test_all_kinds_of_pixels_become_rgb(picture, colour):
  found = images.load(encoded(picture), 4)
  assert found.shape == (4, 4, 3)
  assert (found == colour).all(), found[0, 0]


def test_cmyk_jpeg_becomes_rgb():
  picture = Image.new('CMYK', (8, 8), (0, 255, 255, 0))
  red = images.load(encoded(picture, 'JPEG'), 8)[4, 4].astype(int)
  assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_a_photograph_held_sideways_is_upright():
  picture = Image.new('RGB', (16, 8), 'red')
  picture.paste('blue', (8, 0, 16, 8))
  exif = Image.Exif()
  exif[0x0112] = 6  # rotate by 90 degrees to see it upright
  found = images.decode(encoded(picture, 'PNG', exif=exif))
  assert found.size == (8, 16)
  assert found.getpixel((4, 1)) == (255, 0, 0)
  assert found.getpixel((4, 14)) == (0, 0, 255)


def huge(side: int) -> bytes:
  """The header of a picture that nobody ever drew."""
  body = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  chunk = b'IHDR' + body
  return (
    b'\x89PNG\r\n\x1a\n'
    + struct.pack('>I', len(body))
    + chunk
    + struct.pack('>I', zlib.crc32(chunk))
    + struct.pack('>I', 100)
    + b'IDAT'
  )


def test_a_huge_picture_is_refused_by_its_header():
  with pytest.raises(RowError, match='picture too large: 10000 x 10000 pixels'):
    images.decode(huge(10_000))
  with pytest.raises(RowError, match='decompression bomb'):
    images.decode(huge(100_000))


PNG = encoded(Image.effect_noise((64, 64), 90).convert('RGB'))
JPEG = encoded(Image.effect_noise((64, 64), 90).convert('RGB'), 'JPEG')


@pytest.mark.parametrize(
  'broken',
  [b'', b'no picture', PNG[:20], PNG[: len(PNG) // 2], JPEG[: len(JPEG) // 2]],
  ids=['nothing', 'text', 'header', 'half PNG', 'half JPEG'],
)
def test_a_broken_picture_says_so(broken):
  with pytest.raises(
    RowError, match=f'undecodable picture: {len(broken)} bytes'
  ):
    images.decode(broken)


@settings(max_examples=150, deadline=None)
@given(
  st.sampled_from([PNG, JPEG]),
  st.lists(st.tuples(st.integers(8, 999), st.integers(0, 255)), min_size=1),
)
def test_any_bytes_are_a_picture_or_a_row_error(whole, changes):
  changed = bytearray(whole)
  for place, value in changes:
    changed[place % len(whole)] = value
  try:
    assert images.decode(bytes(changed)).mode == 'RGB'
  except RowError as error:
    assert error.reason in ('undecodable picture', 'picture too large')


def test_an_unknown_policy_is_named_with_the_known_ones():
  with pytest.raises(ValueError, match="'pad'.*squash"):
    images.load(PNG, 8, policy='pad')


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
