"""Batch files: requests written to be handed in, replies read when they come.

The form is OpenAI's: a line a request, matched to its reply by `custom_id`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked
from rlhfv_jax.judge import reply
from rlhfv_jax.judge.cache import Cache

MOST = 50_000  # requests that OpenAI takes in one file


def write(
  path: Path, bodies: Mapping[str, Mapping[str, Any]], *, most: int = MOST
) -> list[Path]:
  """A file of requests by key, or several where one would be too long."""
  lines = [
    {
      'custom_id': key,
      'method': 'POST',
      'url': '/v1/chat/completions',
      'body': body,
    }
    for key, body in bodies.items()
  ]
  parts = [lines[i : i + most] for i in range(0, len(lines), most)]
  made = [path.with_stem(f'{path.stem}-{i}') for i in range(len(parts))]
  made = [path] if len(parts) == 1 else made
  for name, part in zip(made, parts, strict=True):
    files.write_lines(name, part)
  return made


def read(path: Path, cache: Cache) -> tuple[int, dict[str, str]]:
  """Keeps the replies of a file: how many were new, and why others failed."""
  new, failed = 0, {}
  for number, line in enumerate(asked.records(path, _any), 1):
    key = line.get('custom_id') if isinstance(line, dict) else None
    if not re.fullmatch('[0-9a-f]{32}', str(key)) or 'response' not in line:
      raise ValueError(
        f'{path}, line {number}: not a reply to a request that was exported '
        'here (custom_id, response)'
      )
    response = line['response'] or {}
    given = response.get('body')
    if response.get('status_code') == 200 and reply.valid(given):
      if key not in cache:
        cache.put(key, given, batch=path.name)
        new += 1
    else:
      failed[key] = str(line.get('error') or given or response)[:200]
  return new, failed


def collect(folder: Path, cache: Cache) -> tuple[int, dict[str, str]]:
  """The same for all files in a folder but those with requests."""
  new, failed = 0, {}
  for path in sorted(folder.glob('*.jsonl')):
    first = asked.records(path, _any)[0]
    if isinstance(first, dict) and 'body' in first:
      continue
    more, wrong = read(path, cache)
    new, failed = new + more, failed | wrong
  return new, {k: why for k, why in failed.items() if k not in cache}


def _any(record: Any) -> Any:
  return record
