"""Whole: whether all of a picture is there, where possible without decoding."""

import io
import struct
import zlib

from PIL import Image

from rlhfv_jax.data import images, imagetype

# Of PNG: width and height, and how a chunk begins.
_SIZE = struct.Struct('>II')
_CHUNK = struct.Struct('>I4s')


def check(encoded: bytes) -> None:
  """A RowError where the picture is broken, cut short or too large."""
  if not _seen_at_once(encoded):
    images.decode(encoded)


def _seen_at_once(encoded: bytes) -> bool:
  """A picture of a usual size, whose sums are right or that has its end.

  PNG keeps sums of its parts. JPEG has none, and decoders take nearly anything
  between its head and its end.
  """
  kind = imagetype.of(encoded)
  if kind == 'png':
    return _sums_are_right(encoded) and _usual(*_SIZE.unpack(encoded[16:24]))
  if kind != 'jpeg':
    return False
  try:
    with Image.open(io.BytesIO(encoded)) as picture:
      size = picture.size
  except Exception:  # decoders raise whatever broken bytes lead to
    return False
  # Cameras put zeros behind the end mark.
  return _usual(*size) and encoded.rstrip(b'\0').endswith(b'\xff\xd9')


def _usual(width: int, height: int) -> bool:
  return 0 < width * height <= images.MAX_PIXELS and max(width, height) <= 2**15


def _sums_are_right(png: bytes) -> bool:
  """Head first, data, end: chunks of (length, kind, content, sum)."""
  at, kinds = 8, []
  while at + 12 <= len(png):
    length, kind = _CHUNK.unpack_from(png, at)
    end = at + 12 + length
    sum_ = zlib.crc32(png[at + 4 : end - 4])
    if end > len(png) or sum_.to_bytes(4) != png[end - 4 : end]:
      return False
    kinds.append(kind)
    if kind == b'IEND':
      return kinds[0] == b'IHDR' and b'IDAT' in kinds
    at = end
  return False
