"""Annotations: what people corrected or ranked in `annotate`, from its SQLite.

Spans are those that the annotator saw, never found again by a diff. A segment
marked as style weighs like what is unchanged and stands in `extra` alone. Of an
item that several people did, the adjudicated record is read, or the first one;
?everyone=true reads them all. Skipped and flagged items are no pairs, nor are
answers in which nothing was wrong; ?clean=true reads those as demonstrations.
What was marked in answers for MHumanEval is no pair either: `labelled`.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rlhfv_jax.data.example import Example, RowError, Span, from_dict
from rlhfv_jax.data.storage.lazy import Source

FILE = 'annotations.sqlite'
STYLE = 'style'
PAIRS = ('corrected', 'ranked')
_KEPT = (
  'state', 'seconds', 'keys', 'note', 'suggested', 'honesty', 'helpfulness',
)  # fmt: skip

_RECORDS = """
select item, person, record, state from work where record is not null
order by item, final desc, record
"""
_ROW = """
select items.example, pictures.bytes, log.person, log.body, log.at
from log join items on items.id = log.item
left join pictures on pictures.name = items.picture where log.seq = ?
"""
_LABELLED = """
select work.person, items.example, log.body from work
join log on log.seq = work.record join items on items.id = work.item
where work.state = 'labelled' order by work.item, work.person
"""


class Records(Sequence):
  """Submitted records by number. A later change of one is another record, so
  these rows stay as they are while people go on."""

  def __init__(self, path: Path, everyone: bool, clean: bool):
    self.path, self.everyone = path, everyone
    wanted, rows, seen = (*PAIRS, 'clean')[: 3 if clean else 2], [], set()
    try:
      with closing(connect(path)) as db:
        for item, person, seq, state in db.execute(_RECORDS):
          if state in wanted and (everyone or item not in seen):
            rows.append((item, person, seq))
          seen.add(item)
    except sqlite3.Error as error:
      raise ValueError(f'{path}: no annotations can be read: {error}') from (
        error
      )
    self.rows = rows

  def __len__(self) -> int:
    return len(self.rows)

  def __repr__(self) -> str:
    return f'Records({str(self.path)!r}, {len(self)})'

  def __getitem__(self, index: int) -> tuple:
    with closing(connect(self.path)) as db:
      row = db.execute(_ROW, self.rows[index][2:]).fetchone()
    if row is None:
      raise RowError('no such record', f'{self.where(index)}: it was deleted')
    return (*row, self.everyone)

  def where(self, index: int) -> str:
    item, person, _ = self.rows[index]
    return f'{self.path}, item {item} by {person}'

  def files(self) -> list[Path]:
    return [self.path]


def read(
  path: str | Path, *, everyone: bool = False, clean: bool = False
) -> Source:
  """The pairs in a folder of `annotate`, or in the file in it."""
  return Source(Records(_file(Path(path)), everyone, clean), to_example)


def _file(path: Path) -> Path:
  file = path / FILE if path.is_dir() else path
  if not file.is_file():
    raise ValueError(
      f'{path}: no annotations here; `python -m rlhfv_jax annotate '
      f'--workdir={path if file != path else path.parent}` makes some'
    )
  return file


def labelled(path: str | Path) -> dict[str, list[tuple[str, str, list[Span]]]]:
  """By person: (id, answer, what is wrong in it) of all that they labelled."""
  file, found = _file(Path(path)), {}
  with closing(connect(file)) as db:
    for person, told, body in db.execute(_LABELLED):
      told, body = json.loads(told), json.loads(body)
      spans = [(*rejected, label) for _, rejected, label in body['segments']]
      found.setdefault(person, []).append(
        (told['id'], told['answers'][-1], spans)
      )
  return found


def to_example(row: tuple, index: int) -> Example:
  told, picture, person, body, at, everyone = row
  told, body = json.loads(told), json.loads(body)
  if everyone:
    told['id'] = f'{told["id"]}@{person}'
  kept = {name: body[name] for name in _KEPT if body.get(name)}
  extra = told.get('extra', {}) | {'annotation': kept | {'at': at}}
  told |= {'image': picture, 'annotator': person, 'extra': extra}
  if body['state'] == 'ranked':
    told['answers'] = told['answers'][:: 1 if body['better'] == 0 else -1]
    extra['preference'] = body['better'] + 1
    return from_dict(told | {'spans': None})
  said = told['answers'][-1]
  if body['state'] == 'clean':
    return from_dict(told | {'answers': [said], 'spans': None})
  chosen, rejected, style = sides(body['segments'])
  if style:
    extra['annotation']['style'] = style
  return from_dict(
    told | {'answers': [body['text'], said], 'spans': [chosen, rejected]}
  )


def sides(segments: Sequence) -> tuple[list[Span], list[Span], list]:
  """Segments (chosen, rejected, label) -> spans of both answers, and style."""
  chosen, rejected, style = [], [], []
  for new, old, label in segments:
    if label == STYLE:
      style.append([*new, *old])
      continue
    chosen.append((*new, label))
    rejected.append((*old, label))
  return chosen, rejected, style


def connect(path: Path) -> sqlite3.Connection:
  """The file for reading alone."""
  return sqlite3.connect(f'{path.resolve().as_uri()}?mode=ro', uri=True)
