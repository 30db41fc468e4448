"""Correctness: what of an answer a rule can check, without any model.

LLaVA-RLHF names in `caption_type` what is right: 2 to 5 that option A to D is,
6 that the answer is no, 7 that it is yes. Other prompts may carry the `answer`
itself. What cannot be checked counts 0.
"""

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

OPTIONS = {2: 'A', 3: 'B', 4: 'C', 5: 'D'}
NO, YES = 6, 7


def sound(extra: Mapping[str, Any], text: str) -> float:
  """An option or an answer 1 or 0; yes and no alike, half a point each way."""
  kind = extra.get('caption_type')
  if 'answer' in extra:
    return float(_plain(text) == _plain(str(extra['answer'])))
  if kind in OPTIONS:
    return float(_chooses(text, OPTIONS[kind]))
  if kind in (NO, YES):
    words = re.findall(r'\w+', text.lower())
    said = {'no': NO, 'yes': YES}.get(words[0]) if words else None
    return 0.0 if said is None else 0.5 if said == kind else -0.5
  return 0.0


def original(extra: Mapping[str, Any], text: str) -> float:
  """The released code: where yes is right, nothing is won or lost."""
  kind = extra.get('caption_type')
  if kind in OPTIONS:
    return float(_chooses(text, OPTIONS[kind]))
  if kind == NO:
    return 0.5 * (text.startswith('No') - text.startswith('Yes'))
  return 0.0


RULES: dict[str, Callable[[Mapping[str, Any], str], float]] = {
  'sound': sound,
  'original': original,
}


def _chooses(text: str, option: str) -> bool:
  said = f'correct option is {option}.'
  return text.startswith(f'{option}.') or said in text


def _plain(text: str) -> str:
  return ' '.join(text.lower().split()).strip(string.punctuation + ' ')
