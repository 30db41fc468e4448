"""What passes for a whole picture can be decoded; what is cut never passes."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import images, whole
from rlhfv_jax.data.example import RowError

KINDS = {
  'png': {'format': 'PNG'},
  'jpeg': {'format': 'JPEG', 'quality': 90},
  'progressive': {'format': 'JPEG', 'progressive': True},
  'webp': {'format': 'WEBP'},
  'gif': {'format': 'GIF'},
  'bmp': {'format': 'BMP'},
}


def encoded(kind: str) -> bytes:
  pixels = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, **KINDS[kind])
  return file.getvalue()


FILES = {kind: encoded(kind) for kind in KINDS}


def decodes(content: bytes) -> bool:
  try:
    images.decode(content)
  except RowError:
    return False
  return True


def passes(content: bytes) -> bool:
  try:
    whole.check(content)
  except RowError:
    return False
  return True


@pytest.mark.parametrize('kind', KINDS)
def test_whole_pictures_pass(kind):
  assert passes(FILES[kind])
  assert passes(FILES[kind] + b'\0' * 100)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.floats(0, 1))
def test_what_is_cut_short_passes_only_where_it_decodes(kind, share):
  part = FILES[kind][: int(share * len(FILES[kind]))]
  assert passes(part) <= decodes(part)
  if kind in ('png', 'jpeg', 'progressive') and share < 0.9:
    assert not passes(part)


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 0.999), st.integers(1, 255))
def test_a_wrong_byte_in_a_png_is_noticed(place, change):
  content = bytearray(FILES['png'])
  content[int(place * len(content))] ^= change
  assert passes(bytes(content)) <= decodes(bytes(content))


@pytest.mark.parametrize(
  'content, says',
  [
    (b'', '0 bytes'),
    (b'no picture', 'undecodable picture'),
    (FILES['jpeg'][:900], 'undecodable picture'),
  ],
)
def test_the_reason_is_that_of_decoding(content, says):
  with pytest.raises(RowError, match=says):
    whole.check(content)


def test_too_large_a_picture_is_refused_unread():
  content = bytearray(FILES['png'])
  content[16:24] = struct.pack('>II', 9_000, 8_000)
  content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
  with pytest.raises(RowError, match='picture too large.*9000 x 8000'):
    whole.check(bytes(content))
