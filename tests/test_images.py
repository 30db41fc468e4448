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
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil

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
  with pytest.raises(ValueError, match="'stretch'.*crop.*pad.*squash"):
    images.load(PNG, 8, policy='stretch')
  with pytest.raises(ValueError, match="'random'.*none.*trusted.*untrusted"):
    images.load(PNG, 8, augment='random')


# ---- policies, to the bit as the processors that models were trained with


def processed(file: bytes, size: int, policy: str) -> np.ndarray:
  """What transformers makes of a file, before it becomes floats."""
  options = {'do_rescale': False, 'do_normalize': False}
  if policy == 'squash':
    options |= {
      'size': {'height': size, 'width': size},
      'do_center_crop': False,
    }
  else:
    options |= {
      'size': {'shortest_edge': size},
      'crop_size': {'height': size, 'width': size},
      'do_pad': policy == 'pad',
    }
  maker = CLIPImageProcessorPil if policy == 'crop' else LlavaImageProcessorPil
  found = maker(**options)(Image.open(io.BytesIO(file)), return_tensors='np')
  return found['pixel_values'][0].transpose(1, 2, 0)


def noise(width: int, height: int, mode: str = 'RGB') -> Image.Image:
  rng = np.random.default_rng(width * 1000 + height)
  coarse = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8)
  return Image.fromarray(coarse).resize((width, height)).convert(mode)


@settings(max_examples=150, deadline=None)
@given(
  policy=st.sampled_from(sorted(images.POLICIES)),
  width=st.integers(1, 90),
  height=st.integers(1, 90),
  size=st.integers(1, 60),
)
def test_a_policy_is_the_processors_to_the_bit(policy, width, height, size):
  file = encoded(noise(width, height))
  np.testing.assert_array_equal(
    images.load(file, size, policy=policy), processed(file, size, policy)
  )


@settings(max_examples=150, deadline=None)
@given(
  scale=st.tuples(st.integers(1, 12), st.integers(1, 12)),
  sides=st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True),
  wide=st.booleans(),
)
def test_so_it_is_where_only_the_middle_is_scaled(scale, sides, wide):
  """Sizes that keep the edges of the cut on whole and half pixels."""
  (of, to), (short, long) = scale, sorted(sides)
  shape = (of * long, of * short) if wide else (of * short, of * long)
  file = encoded(noise(*shape))
  np.testing.assert_array_equal(
    images.load(file, to * short, policy='crop'),
    processed(file, to * short, 'crop'),
  )


@pytest.mark.parametrize('size', [224, 336, 448])
@pytest.mark.parametrize(
  'shape', [(640, 480), (427, 640), (500, 333), (96, 96)]
)
@pytest.mark.parametrize('policy', sorted(images.POLICIES))
def test_so_it_is_for_photographs(policy, shape, size):
  file = encoded(noise(*shape), 'JPEG')
  np.testing.assert_array_equal(
    images.load(file, size, policy=policy), processed(file, size, policy)
  )


# What Pillow writes of each kind.
MODES = {
  'JPEG': ('RGB', 'L', 'CMYK', '1'),
  'PNG': ('RGB', 'L', 'P', '1'),
  'BMP': ('RGB', 'L', 'P', '1'),
  'TIFF': ('RGB', 'L', 'P', '1', 'CMYK'),
  'WEBP': ('RGB', 'L', 'P', 'CMYK'),
  'GIF': ('RGB', 'L', 'P', '1'),
}


@pytest.mark.parametrize('policy', sorted(images.POLICIES))
@pytest.mark.parametrize(
  'kind, mode', [(kind, mode) for kind in MODES for mode in MODES[kind]]
)
def test_so_it_is_for_all_kinds_of_files(policy, kind, mode):
  file = encoded(noise(40, 30, mode), kind)
  np.testing.assert_array_equal(
    images.load(file, 24, policy=policy), processed(file, 24, policy)
  )


@pytest.mark.parametrize('size', [448, 672])
def test_squash_is_muffins_transform(size):
  """Resize and ToTensor, with torchvision where it is, on uint8."""
  transforms = pytest.importorskip('torchvision.transforms')
  bicubic = transforms.InterpolationMode.BICUBIC
  muffin = transforms.Compose(
    [
      transforms.Resize((size, size), interpolation=bicubic),
      transforms.PILToTensor(),
    ]
  )
  for shape in ((640, 480), (427, 640), (30, 800)):
    file = encoded(noise(*shape), 'JPEG')
    expected = muffin(Image.open(io.BytesIO(file)).convert('RGB'))
    np.testing.assert_array_equal(
      images.load(file, size), expected.numpy().transpose(1, 2, 0)
    )


def test_a_picture_has_everything_in_its_place_under_each_policy():
  """A red frame around white: squash and pad keep it, crop cuts its sides."""
  picture = Image.new('RGB', (60, 30), 'red')
  picture.paste('white', (3, 3, 57, 27))
  squashed, padded, cropped = (
    images.load(encoded(picture), 30, policy=policy)
    for policy in ('squash', 'pad', 'crop')
  )
  red, mean = [255, 0, 0], list(images.CLIP_MEAN)
  assert squashed[15, 0].tolist() == squashed[0, 15].tolist() == red
  assert padded[0, 15].tolist() == padded[-1, 15].tolist() == mean
  assert padded[15, 0].tolist() == padded[15, -1].tolist() == red
  assert cropped[0, 15].tolist() == red
  assert cropped[15, 0].tolist() == [255] * 3


# ---- pictures that are unusual


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


# ---- views


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
