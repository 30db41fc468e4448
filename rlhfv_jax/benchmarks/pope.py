"""POPE: is there such a thing in the picture, yes or no (Li et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, manner, tally

SPLITS = ('random', 'popular', 'adversarial')
SUFFIX = '\nAnswer the question using a single word or phrase.'  # LLaVA's

_YES = frozenset('yes yeah yep yup yea sure definitely true'.split())  # noqa: SIM905
_NO = frozenset(
  [
    'no',
    'not',
    'nope',
    'nah',
    'none',
    'cannot',
    'neither',
    'never',
    'nothing',
    'without',
    'absent',
    'missing',
    'false',
  ]  # noqa: SIM905
)
_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?(?:-[a-z]+)*")


def parse(text: str, strict: bool = True) -> str | None:
  """'yes' or 'no'.

  Strict is the original: "no" where one of the blank-separated words before the
  first full stop is No, not or no, else "yes", whatever it says. Lenient goes
  by the first word that decides, and is None where none does.
  """
  if strict:
    words = text.split('.')[0].replace(',', '').split(' ')
    return 'no' if {'No', 'not', 'no'} & set(words) else 'yes'
  text = text.lower()
  for word in _WORD.findall(text):
    if word in _YES:
      return 'yes'
    if word in _NO or re.search("n['’]t$", word):
      return 'no'
  return 'yes' if re.search(r'\bthere (?:is|are)\b', text) else None


def questions(
  path: str | Path,
  *,
  images: str | Path | None = None,
  suffix: str = '',
) -> list[dict]:
  """The questions of a split's file, or of all splits in a folder."""
  rows = _rows(path)
  asks = [{'id': r['id'], 'question': r['question'] + suffix} for r in rows]
  return asked.with_pictures(asks, images, [[row['image']] for row in rows])


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  strict: bool = True,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Accuracy, precision, recall, F1 and yes-rate by split, and their means.

  An answer that lenient parsing cannot read is wrong, and counted as unread.
  """
  rows = _rows(path)
  ids = [row['id'] for row in rows]
  texts = asked.texts(answers, ids, path)
  said = [parse(text, strict) for text in texts]
  labels = [row['label'] for row in rows]
  splits = [row['split'] for row in rows]
  columns: manner.Columns = {}
  for split in dict.fromkeys(splits):
    here = [split == other for other in splits]
    columns |= {
      f'{name}/{split}': sides
      for name, sides in counts(said, labels, here).items()
    }
  unread = [s is None for s in said]
  return tally.result(
    'pope',
    ids,
    {
      **columns,
      'unparsed': (unread, [1] * len(ids)),
      **manner.columns(texts, short=True),
    },
    settings={'strict': strict, 'splits': sorted(set(splits))},
    means={
      name: [f'{name}/{split}' for split in dict.fromkeys(splits)]
      for name in ('accuracy', 'precision', 'recall', 'f1', 'yes')
    },
    found=[{'said': word} for word in said],
    official={
      split: confusion(
        [s for s, other in zip(said, splits, strict=True) if other == split],
        [x for x, other in zip(labels, splits, strict=True) if other == split],
      )
      for split in dict.fromkeys(splits)
    },
    warnings=_warnings(said, splits),
    repeats=repeats,
    seed=seed,
  )


def counts(
  said: Sequence[str | None],
  labels: Sequence[str],
  here: Sequence[bool],
  *,
  positive: str = 'yes',
) -> manner.Columns:
  """What each answer adds to accuracy, precision, recall, F1 and yes-rate.

  F1 = 2 TP / (2 TP + FP + FN): the harmonic mean of the other two.
  """
  rows = list(zip(said, labels, here, strict=True))
  right = [h and s == x for s, x, h in rows]
  true = [h and s == x == positive for s, x, h in rows]
  taken = [h and s == positive for s, x, h in rows]
  there = [h and x == positive for s, x, h in rows]
  both = [t + x for t, x in zip(taken, there, strict=True)]
  return {
    'accuracy': (right, list(here)),
    'precision': (true, taken),
    'recall': (true, there),
    'f1': ([2 * t for t in true], both),
    'yes': ([h and s == 'yes' for s, x, h in rows], list(here)),
  }


def confusion(said: Sequence[str | None], labels: Sequence[str]) -> dict:
  """What the original prints; None where it divides by zero and stops."""
  pairs = list(zip(said, labels, strict=True))
  tp, fp = (sum(s == 'yes' and x == y for s, x in pairs) for y in ('yes', 'no'))
  tn, fn = (sum(s != 'yes' and x == y for s, x in pairs) for y in ('no', 'yes'))
  precision = tp / (tp + fp) if tp + fp else None
  recall = tp / (tp + fn) if tp + fn else None
  f1 = 2 * precision * recall / (precision + recall) if tp else None
  return {
    'TP': tp, 'FP': fp, 'TN': tn, 'FN': fn, 'precision': precision,
    'recall': recall, 'f1': f1, 'acc': (tp + tn) / len(pairs),
    'yes_ratio': (tp + fp) / len(pairs),
  }  # fmt: skip


def _warnings(said: Sequence[str | None], splits: Sequence[str]) -> list[str]:
  told = []
  for split in dict.fromkeys(splits):
    words = {s for s, other in zip(said, splits, strict=True) if other == split}
    if len(words) == 1:
      told.append(f'{split}: every answer was read as {words.pop()!r}')
  return told


def _rows(path: str | Path) -> list[dict]:
  files = _files(Path(path))
  return [row for split, file in files.items() for row in _split(file, split)]


def _files(path: Path) -> dict[str, Path]:
  """The files by split. A file whose name tells no split is its own."""
  if not path.is_dir():
    name = next((s for s in SPLITS if s in path.name), path.stem)
    return {name: path}
  found = {}
  for split in SPLITS:
    files = sorted(path.glob(f'*{split}*.json*'))
    if len(files) > 1:
      raise ValueError(
        f'{path}: {len(files)} files for the split {split}: '
        f'{asked.some([f.name for f in files])}; give a folder with one'
      )
    if files:
      found[split] = files[0]
  if not found:
    raise ValueError(f'{path}: no file here is named {" or ".join(SPLITS)}')
  return found


def _split(path: Path, split: str) -> list[dict]:
  def make(record: dict) -> dict:
    if record['label'] not in ('yes', 'no'):
      raise ValueError(f'label {record["label"]!r} is neither yes nor no')
    return {
      'split': record.get('category', split),
      'number': record['question_id'],
      'question': record['text'],
      'image': record['image'],
      'label': record['label'],
    }

  rows = asked.records(path, make, what='POPE')
  ids = asked.unique(f'{row["split"]}/{row["number"]}' for row in rows)
  return [{**row, 'id': i} for i, row in zip(ids, rows, strict=True)]
