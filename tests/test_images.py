"""Pictures of every kind arrive as they were meant, or say what is wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import images
from rlhfv_jax.data.rows import RowError

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
  with pytest.raises(ValueError, match="'stretch'.*crop.*pad.*squash"):
    images.load(PNG, 8, policy='stretch')
  with pytest.raises(ValueError, match="'random'.*none.*trusted.*untrusted"):
    images.load(PNG, 8, augment='random')


def noise(width: int, height: int, mode: str = 'RGB') -> Image.Image:
  rng = np.random.default_rng(width * 1000 + height)
  coarse = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8)
  return Image.fromarray(coarse).resize((width, height)).convert(mode)


@pytest.mark.parametrize('policy', sorted(images.POLICIES))
@pytest.mark.parametrize('shape', [(1, 1), (1, 200), (200, 1), (2, 3)])
def test_a_picture_of_hardly_any_pixels_is_one(policy, shape):
  found = images.load(encoded(Image.new('RGB', shape, 'blue')), 16,
                      policy=policy)  # fmt: skip
  assert found.shape == (16, 16, 3)
  assert found[8, 8].tolist() == [0, 0, 255] or policy == 'pad'


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'WEBP', 'TIFF'])
def test_of_a_moving_picture_the_first_is_taken(kind):
  frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue')]
  file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
  red = images.load(file, 8)[4, 4].astype(int)
  assert red[0] > 240 and red[2] < 15


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photograph_is_upright_however_it_was_held(orientation):
  upright = noise(12, 8)
  held = {
    1: None, 2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM',
    5: 'TRANSPOSE', 6: 'ROTATE_90', 7: 'TRANSVERSE', 8: 'ROTATE_270',
  }[orientation]  # fmt: skip
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored = upright.transpose(Image.Transpose[held]) if held else upright
  found = images.decode(encoded(stored, exif=exif))
  np.testing.assert_array_equal(np.asarray(found), np.asarray(upright))


def test_a_long_picture_is_bounded_before_it_is_scaled():
  with pytest.raises(RowError, match='70000 x 1 pixels, .* 65535 on an edge'):
    images.decode(encoded(Image.new('1', (70_000, 1))))
  for shape in ((60_000, 1), (1, 60_000)):
    file = encoded(Image.new('1', shape, 1))
    assert (images.load(file, 336) == 255).all()
    with pytest.raises(RowError, match='become 60000 x 60000, the limit is'):
      images.load(file, 336, policy='pad')
    with pytest.raises(
      RowError, match=r'become (336|20160000) x (336|20160000)'
    ):
      images.load(file, 336, policy='crop')
