"""A reply as the endpoint gave it: its text, or why it has none to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Why a reply is left out. What stands behind a colon is about the one case.
REFUSED = 'the judge refused'
HALF = 'the reply ends in the middle (give it more tokens: judge.options)'
EMPTY = 'the reply is empty'


def valid(given: Any) -> bool:
  """Whether this is a chat completion at all, whatever it says."""
  try:
    return isinstance(given['choices'][0]['message'], Mapping)
  except (KeyError, IndexError, TypeError):
    return False


def text(given: Mapping[str, Any]) -> tuple[str, str]:
  """(text, ''), or ('', why there is none)."""
  choice = given['choices'][0]
  message, ended = choice['message'], choice.get('finish_reason')
  if message.get('refusal') or ended == 'content_filter':
    return '', f'{REFUSED}: {message.get("refusal") or ended}'
  said = message.get('content') or ''
  if not isinstance(said, str):  # in parts, as some servers give it
    parts = said if isinstance(said, list) else []
    texts = (p.get('text') for p in parts if isinstance(p, Mapping))
    said = ''.join(text for text in texts if isinstance(text, str))
  if ended == 'length':
    return '', HALF
  return (said, '') if said.strip() else ('', EMPTY)


def same(asked: str, served: str) -> bool:
  """Whether the name is that of what was asked, or of a dated version of it."""
  plain = lambda name: name.rpartition('/')[2].lower()
  return plain(served).startswith(plain(asked))
