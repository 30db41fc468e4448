"""LLaVA-Bench: a judge scores an answer beside GPT-4's, COCO and in the wild.

The path is the folder of the official files (`llava_bench_files.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, manner, tally
from rlhfv_jax.benchmarks.judging import matched, request
from rlhfv_jax.benchmarks.llava_bench_files import read, read_rules

SYSTEM = (
  'You are a helpful and precise assistant for checking the quality of the '
  'answer.'
)
JUDGE = {'temperature': 0.2, 'max_tokens': 1024}
FAILED = (-1, -1)

_NUMBER = r'(\d{1,3}(?:\.\d{1,4})?)(?:\s?/\s?10)?'
_PAIR = re.compile(rf'^\D{{0,40}}?{_NUMBER}[^\w.]{{1,12}}{_NUMBER}\D{{0,10}}$')
_NAMED = re.compile(
  r'assistant\s*([12])\W*?(?:score\W*?)?(\d+(?:\.\d+)?)', re.I
)


def questions(
  path: str | Path, *, images: str | Path | None = None
) -> list[dict]:
  """The questions; COCO's pictures may have their prefix or not."""
  rows = read(path)
  names = [[r['image'], f'COCO_val2014_{r["image"]}'] for r in rows]
  asks = [{'id': r['id'], 'question': r['question']} for r in rows]
  return asked.with_pictures(asks, images, names)


def prompts(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  prompt: str | Path | None = None,
) -> list[dict]:
  """A request for each answer, in the original's frame.

  What the judge is told to do comes from `prompt`, else from the folder's
  rule.json, else from our own file.
  """
  rows = read(path)
  texts = asked.texts(answers, [row['id'] for row in rows], path)
  rules = read_rules(path, prompt)
  return [
    request(row['id'], _frame(row, text, rules), system=SYSTEM, **JUDGE)
    for row, text in zip(rows, texts, strict=True)
  ]


def _frame(row: Mapping[str, str], answer: str, rules: Mapping) -> str:
  rule = rules.get(row['rule']) or rules.get('default')
  if rule is None:
    raise ValueError(f'no rule for {row["rule"]!r} among {sorted(rules)}')
  role = rule['role']
  return (
    f'[Context]\n{row["context"]}\n\n[Question]\n{row["question"]}\n\n'
    f'[{role} 1]\n{row["reference"]}\n\n[End of {role} 1]\n\n'
    f'[{role} 2]\n{answer}\n\n[End of {role} 2]\n\n'
    f'[System]\n{rule["prompt"]}\n\n'
  )


def scores(reply: str, strict: bool = True) -> tuple[float, float] | None:
  """The reference's score and the answer's.

  Strict is the original: the first line, with commas as blanks, is two numbers
  with one blank between, else (-1, -1). Lenient is None where none are found.
  """
  if strict:
    parts = reply.split('\n')[0].replace(',', ' ').split(' ')
    try:
      first, second = map(float, parts)
    except ValueError:
      return FAILED
    return first, second
  named = dict(_NAMED.findall(reply))
  if len(named) == 2:
    return float(named['1']), float(named['2'])
  for line in filter(None, map(str.strip, reply.splitlines())):
    if pair := _PAIR.match(line):
      return float(pair[1]), float(pair[2])
  return None


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  replies: Mapping[str, str] | None = None,
  strict: bool = True,
  judge: str = '',
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """The answers' mean score over the reference's, in all and by category.

  Replies that cannot be read are left out, as RLHF-V's summary does; `official`
  has LLaVA's too, which averages their -1.
  """
  rows = read(path)
  ids = [row['id'] for row in rows]
  texts = asked.texts(answers, ids, path)
  given = matched(replies, ids)
  pairs = [None if r is None else scores(r, strict) for r in given]
  good = [_usable(pair) for pair in pairs]
  kinds = [row['category'] for row in rows]
  columns = {
    **_columns([p if g else (0, 0) for p, g in zip(pairs, good, strict=True)],
               good, kinds),
    'unjudged': ([r is None for r in given], [1] * len(ids)),
    'unparsed': ([r is not None and not g
                  for r, g in zip(given, good, strict=True)],
                 [r is not None for r in given]),
    **manner.columns(texts),
  }  # fmt: skip
  return tally.result(
    'llava_bench',
    ids,
    columns,
    settings={'strict': strict, 'judge': judge, 'set': rows[0]['set']},
    found=[
      {'category': kind, 'scores': list(pair) if ok else None}
      for kind, pair, ok in zip(kinds, pairs, good, strict=True)
    ],
    official=_official(pairs, kinds) if strict and None not in pairs else {},
    repeats=repeats,
    seed=seed,
  )


def _usable(pair: tuple[float, float] | None) -> bool:
  """Not the mark of a failure, and numbers that an average survives."""
  return pair is not None and pair[0] != -1 and all(map(math.isfinite, pair))


def _columns(
  pairs: Sequence[tuple[float, float]],
  good: Sequence[bool],
  kinds: Sequence[str],
) -> manner.Columns:
  references, ours = ([pair[i] for pair in pairs] for i in (0, 1))
  found: manner.Columns = {
    'relative': (ours, references),
    'score': (ours, good),
    'score/reference': (references, good),
  }
  for kind in dict.fromkeys(kinds):
    found[f'relative/{kind}'] = tuple(
      [x * (k == kind) for x, k in zip(side, kinds, strict=True)]
      for side in (ours, references)
    )
  return found


def _official(
  pairs: Sequence[tuple[float, float]], kinds: Sequence[str]
) -> dict[str, dict[str, float | None]]:
  """round(model / reference * 100, 1) of means rounded to three places."""
  summaries = {}
  for name, left_out in (('RLHF-V', True), ('LLaVA', False)):
    rows = [
      (kind, pair)
      for kind, pair in zip(kinds, pairs, strict=True)
      if not (left_out and pair[0] == -1)
    ]
    summaries[name] = {
      kind: _relative([pair for other, pair in rows if kind in ('all', other)])
      for kind in ('all', *dict.fromkeys(kinds))
    }
  return summaries


def _relative(pairs: Sequence[tuple[float, float]]) -> float | None:
  if not pairs:
    return None
  reference, ours = (
    round(sum(pair[i] for pair in pairs) / len(pairs), 3) for i in (0, 1)
  )
  value = ours / reference * 100 if reference else math.nan
  return round(value, 1) if math.isfinite(value) else None
