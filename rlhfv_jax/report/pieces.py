"""A pair token by token, as HTML: what is corrected, and a number at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from rlhfv_jax.report.gallery import marked

_BOX = 'padding:1px 3px;margin:1px;border-radius:3px;display:inline-block'
_ROLES = {  # not scored, unchanged, corrected
  0: 'color:#868e99',
  1: 'background:rgba(134,142,153,.18)',
  2: 'background:rgba(199,124,17,.45);font-weight:bold',
}
_MORE, _LESS = '31,111,181', '179,38,30'  # blue above zero, red below


def by_span(answers: Sequence[str], spans: Sequence[Sequence]) -> str:
  """A pair as text, chosen first, its corrected segments marked."""
  return ''.join(
    f'<p><b>{name}</b>: {marked(answer, where)}</p>'
    for name, answer, where in zip(
      ('chosen', 'rejected'), answers, spans, strict=True
    )
  )


def by_role(answers: Mapping[str, tuple[Sequence[str], Sequence[int]]]) -> str:
  """{answer: (words, roles)}: corrected words stand out, others are grey."""
  return _lines(
    {
      name: [
        _token(word, _ROLES[int(role)], f'role {int(role)}')
        for word, role in zip(words, roles, strict=True)
      ]
      for name, (words, roles) in answers.items()
    }
  )


def by_value(
  answers: Mapping[str, tuple[Sequence[str], Sequence[float]]],
) -> str:
  """{answer: (words, numbers)}: the stronger the colour, the larger.

  One scale for all of them; the number is below its word.
  """
  every = [abs(float(v)) for _, values in answers.values() for v in values]
  most = max([v for v in every if np.isfinite(v)], default=0.0) or 1.0
  return _lines(
    {
      name: [
        _number(word, float(value), most)
        for word, value in zip(words, values, strict=True)
      ]
      for name, (words, values) in answers.items()
    }
  )


def _number(word: str, value: float, most: float) -> str:
  colour = _MORE if value > 0 else _LESS
  strong = 0.7 * min(abs(value) / most, 1) if np.isfinite(value) else 0
  look = f'background:rgba({colour},{strong:.2f});text-align:center'
  return _token(word, look, f'{value:.4g}', below=f'{value:.2f}')


def _token(word: str, look: str, title: str, *, below: str = '') -> str:
  small = f'<br><small>{below}</small>' if below else ''
  return (
    f'<span style="{_BOX};{look}" title="{title}">{escape(word)}{small}</span>'
  )


def _lines(answers: Mapping[str, Sequence[str]]) -> str:
  lines = [
    f'<p style="line-height:1.5"><b>{escape(name)}</b><br>{"".join(tokens)}</p>'
    for name, tokens in answers.items()
  ]
  return ''.join(lines)
