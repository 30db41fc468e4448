"""What a judge is asked: a template filled in, and the options of the call.

A request is a dict of `id`, `system`, `user` and `options`; who sends it and
keeps the replies need not know the benchmark. Replies come back as id -> text.
The templates in prompts/ are ours; where a benchmark has its own, its path can
be given instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked

FOLDER = Path(__file__).with_name('prompts')


def request(id: str, user: str, *, system: str = '', **options: Any) -> dict:
  return {'id': id, 'system': system, 'user': user, 'options': options}


def template(name: str, path: str | Path | None = None) -> str:
  """The template at a path, or ours of that name."""
  return Path(path or FOLDER / f'{name}.txt').read_text('utf-8')


def fill(template: str, **values: str) -> str:
  """Puts values into {name}s, or into {}s in order; no other brace counts.

  Official templates use both forms.
  """
  if '{}' in template:
    parts = template.split('{}')
    if len(parts) != len(values) + 1:
      raise ValueError(
        f'the template has {len(parts) - 1} places {{}} for {len(values)} '
        f'values: {", ".join(values)}'
      )
    filled = [part.replace('{{', '{').replace('}}', '}') for part in parts]
    pieces = [*values.values(), '']
    return ''.join(p + v for p, v in zip(filled, pieces, strict=True))
  missing = [name for name in values if f'{{{name}}}' not in template]
  if missing:
    raise ValueError(f'the template has no place for {{{missing[0]}}}')
  names = '|'.join(values)
  return re.sub(rf'{{({names})}}', lambda m: values[m[1]], template)


def matched(
  replies: Mapping[str, str] | None, ids: Sequence[str]
) -> list[str | None]:
  """Replies in the order of ids, None where the judge gave none."""
  if replies is None:
    raise ValueError(
      'this benchmark is scored by a judge: give its replies (id -> text) to '
      'the requests that prompts() makes'
    )
  if strangers := sorted(set(replies) - set(ids)):
    raise ValueError(
      f'{len(strangers)} of {len(replies)} replies are to no question of this '
      f'benchmark: {asked.some(strangers)}'
    )
  return [replies.get(i) for i in ids]
