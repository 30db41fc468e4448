"""Muffin's TSV: its first RLHF-V data, UniMM-Chat and VQAv2.

`text` is [question, chosen, rejected], followed by six log-probs in a cached
copy; or a conversation [{from, value}]; or {question, answer}. Of pairs,
`origin_split` is base64 of JSON. There, which Muffin only hands on, stands also
what has no column.
"""

import base64
import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from rlhfv_jax.data import export, lossless, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.formats import unimm
from rlhfv_jax.data.storage import tsv
from rlhfv_jax.data.storage.lazy import Source

_FORM = f'{lossless.OWN}muffin_tsv.form'
_NAMES = frozenset(tsv.COLUMNS)


def read(path: str | Path) -> Source:
  """A folder of TSV files, or one of them."""
  return Source(tsv.read(path), to_example)


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A folder of TSV files."""
  if Path(path).suffix == '.tsv':
    raise ValueError(
      f'{path}: name a folder: a file is called by the number of its rows'
    )
  tsv.write(path, map(_packed, export.rows(examples, FORMAT)))


def check(example: Example, index: int) -> None:
  """A RowError where the example cannot be written."""
  tsv.line(_packed(lossless.to_row(example, index, format=FORMAT)))


def to_example(row: dict, index: int) -> Example:
  return lossless.to_example(_unpacked(row), index, format=FORMAT)


def _packed(row: dict) -> dict:
  """What has no column goes into the split."""
  more = {k: lossless.jsonable(v) for k, v in row.items() if k not in _NAMES}
  if not more:
    return row
  told = json.dumps({'split': row['origin_split'], 'columns': more})
  return {**row, 'origin_split': base64.b64encode(told.encode()).decode()}


def _unpacked(row: dict) -> dict:
  with contextlib.suppress(ValueError, KeyError, TypeError):
    told = json.loads(base64.b64decode(row['origin_split'], validate=True))
    columns = lossless.from_jsonable(told['columns'])
    return {**columns, **row, 'origin_split': told['split']}
  return row


def parse(row: dict, index: int) -> Example:
  told = pairs.load(row['text'], 'text')
  known = {
    'id': row['idx'],
    'image': row['image'],
    'image_path': row['image_path'],
    'origin': row['origin_dataset'],
  }
  extra = {'ds_name': row['ds_name']} if row['ds_name'] else {}
  if isinstance(told, dict):
    return _vqa(told, known, extra | _split(row['origin_split']))
  if not isinstance(told, list) or not told:
    raise RowError('wrong type', 'text is no list and no question with answer')
  if isinstance(told[0], dict):
    extra |= _split(row['origin_split'])
    return unimm.conversation(told, extra=extra, **known)
  if len(told) not in (3, 4):
    raise RowError('not a pair', f'text is a list of {len(told)}: 3 or 4')
  split = tsv.utf8(
    tsv.decoded(row['origin_split'].encode(), 'origin_split'), 'origin_split'
  )
  extra |= pairs.origin({'origin_split': split})
  return Example(
    turns=(('user', told[0]),),
    answers=tuple(told[1:3]),
    model=pairs.model_of(split),
    extra=extra | ({'logps': told[3]} if len(told) == 4 else {}),
    **known,
  )


def _split(text: str) -> dict:
  return {'origin_split': text} if text else {}


def _vqa(told: dict, known: dict, extra: dict) -> Example:
  asked, answer = (
    pairs.entry(told, key, 'text') for key in ('question', 'answer')
  )
  return Example(
    turns=(('user', asked),),
    answers=(answer,),
    extra=extra | {_FORM: 'vqa'},
    **known,
  )


def form(example: Example, index: int) -> dict:
  split = str(example.extra.get('origin_split', ''))
  if len(example.answers) == 2:
    text = [pairs.question(example), *example.answers]
    if logps := pairs.logps(example):
      text.append(logps)
    split = base64.b64encode(pairs.origin_split(example).encode()).decode()
  elif example.extra.get(_FORM) == 'vqa':
    text = {'question': pairs.question(example), 'answer': example.answers[0]}
  else:
    text = unimm.said(example)
  return {
    'ds_name': str(example.extra.get('ds_name', '')),
    'image': pairs.picture(example),
    'text': json.dumps(text),
    'origin_dataset': example.origin,
    'origin_split': split,
    'idx': example.id,
    'image_path': example.image_path,
  }


FORMAT = lossless.Format('muffin_tsv', tsv.COLUMNS, parse, form)
