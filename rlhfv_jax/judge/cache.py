"""Replies that are kept: a folder of JSON lines, found by the whole request."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.judge import reply


def key(body: Mapping[str, Any], run: int = 0) -> str:
  """Names a request: everything that is sent, and which time it is asked."""
  text = json.dumps({'request': body, 'run': run}, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Cache:
  """key -> reply. Who asks writes a file of their own, and reads all.

  So several may ask at a time, nobody mends what another left half written, and
  folders are merged by copying. Of two replies to one request the newer counts.
  """

  def __init__(self, folder: str | Path):
    self.folder = Path(folder)
    self.own = self.folder / f'{time.time_ns()}-{os.getpid()}.jsonl'
    self._known: dict[str, dict] = {}
    for path in sorted(self.folder.glob('*.jsonl')):
      for number, row in enumerate(files.read_lines(path), 1):
        if not isinstance(row, dict) or not reply.valid(row.get('reply')):
          raise ValueError(
            f'{path}, line {number}: not a kept reply (key, reply): delete it'
          )
        self._known[row['key']] = row['reply']

  def __contains__(self, key: str) -> bool:
    return key in self._known

  def __getitem__(self, key: str) -> dict:
    return self._known[key]

  def __len__(self) -> int:
    return len(self._known)

  def put(self, key: str, given: dict, **about: Any) -> None:
    """Keeps a reply for good before it returns, with what is known of it."""
    at = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
    files.append_lines(
      self.own, [{'key': key, 'at': at, **about, 'reply': given}]
    )
    self._known[key] = given
