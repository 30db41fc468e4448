"""Facts: true sentences about pictures by name, as LLaVA-RLHF keeps them.

One JSON object, {"000000123456.jpg": [captions], "aok_000000123456.jpg":
[rationales], ...}. It is indexed, not loaded: a worker process holds the names.
"""

import json
import mmap
import re
from pathlib import Path

import numpy as np

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ENTRY = re.compile(
  rb'\s*(' + _STRING + rb')\s*:\s*(\[(?:[^]["]++|' + _STRING + rb')*+\])\s*',
  re.DOTALL,
)


class Facts:
  """facts(name) -> the sentences, none where the file does not know it."""

  def __init__(self, path: Path, names: np.ndarray, places: np.ndarray):
    self.path = path
    self.age = path.stat().st_mtime_ns  # as what is made with it is cached
    self._names, self._places = names, places  # S[N] sorted, i64[N,2]

  def __call__(self, name: str) -> tuple[str, ...]:
    key = name.encode()
    at = int(np.searchsorted(self._names, key))
    if at == len(self._names) or self._names[at] != key:
      return ()
    start, end = self._places[at].tolist()
    with open(self.path, 'rb') as file:
      file.seek(start)
      return tuple(json.loads(file.read(end - start)))


def read(path: str | Path) -> Facts:
  path = Path(path)
  if not path.is_file() or not path.stat().st_size:
    raise ValueError(f'{path}: no such file of facts, or an empty one')
  names, places = [], []
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    at, mark = 0, b'{'
    while data[at : at + 1] == mark and (entry := _ENTRY.match(data, at + 1)):
      names.append(json.loads(entry[1]).encode())
      places.append(entry.span(2))
      at, mark = entry.end(), b','
      del entry  # a match holds on to the map
    if data[at:].strip() != b'}':
      raise ValueError(
        f'{path}: after {len(names)} names, byte {at}: no '
        '"picture.jpg": ["a sentence", ...] follows; the file is cut short or '
        'is not one of facts'
      )
  order = np.argsort(np.array(names, 'S'), kind='stable')
  return Facts(path, np.array(names, 'S')[order], np.array(places)[order])
