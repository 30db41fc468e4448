"""Whole: whether all of a picture is there, where possible without decoding."""

import io

from PIL import Image

from rlhfv_jax.data import images


def check(encoded: bytes) -> None:
  """A RowError where the picture is broken, cut short or too large."""
  if not _seen_at_once(encoded):
    images.decode(encoded)


def _seen_at_once(encoded: bytes) -> bool:
  """A picture of a usual size, whose sums are right or that has its end.

  PNG keeps sums of its parts. JPEG has none, and decoders take nearly anything
  between its head and its end.
  """
  try:
    with Image.open(io.BytesIO(encoded)) as picture:
      width, height = picture.size
      if width * height > images.MAX_PIXELS or max(width, height) > 2**15:
        return False
      if picture.format == 'PNG':
        picture.verify()
        return True
      # Cameras put zeros behind the end mark.
      return picture.format == 'JPEG' and encoded.rstrip(b'\0').endswith(
        b'\xff\xd9'
      )
  except Exception:  # decoders raise whatever broken bytes lead to
    return False
