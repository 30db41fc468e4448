"""Image type: what a picture's bytes are, by how they begin."""

_BEGINNINGS = {
  b'\xff\xd8\xff': 'jpg',
  b'\x89PNG\r\n\x1a\n': 'png',
  b'GIF8': 'gif',
  b'BM': 'bmp',
  b'II*\0': 'tif',
  b'MM\0*': 'tif',
}
_AVIF = (b'ftypavif', b'ftypavis')


def of(encoded: bytes) -> str:
  """The suffix of a file of such bytes; empty where they are no picture."""
  for beginning, suffix in _BEGINNINGS.items():
    if encoded.startswith(beginning):
      return suffix
  if encoded[:4] == b'RIFF' and encoded[8:12] == b'WEBP':
    return 'webp'
  return 'avif' if encoded[4:12] in _AVIF else ''
