"""The store: one SQLite file in which nothing is lost and nothing overwritten.

All that anybody ever saved is a row of `log`, which only grows; `work` says
which of them is the newest of a person on an item. Whoever saves names the
version that they saw. Where it is no longer the newest, their text is kept in
the log too, and they are told: neither text silently wins.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlhfv_jax.data.formats.annotations import FILE

OPEN = 'open'
STATES = (
  'corrected', 'clean', 'skipped', 'flagged', 'ranked', 'labelled',
)  # fmt: skip

_SCHEMA = """
create table if not exists about (key text primary key, value text not null);
create table if not exists pictures (
  name text primary key, bytes blob not null);
create table if not exists items (
  id integer primary key, key text not null unique, example text not null,
  picture text, wanted integer not null);
create table if not exists people (name text primary key, since real not null);
create table if not exists log (
  seq integer primary key autoincrement, item integer not null,
  person text not null, version integer not null, state text not null,
  body text not null, at real not null, save text not null unique);
create table if not exists work (
  item integer not null references items, person text not null,
  version integer not null, state text not null, newest integer,
  record integer, final integer not null default 0, assigned real not null,
  primary key (item, person)) without rowid;
create index if not exists work_person on work (person, state);
"""


class Work(NamedTuple):
  """How far a person is with an item."""

  version: int = 0
  state: str = OPEN  # of the newest record
  body: Mapping[str, Any] | None = None  # the newest text, submitted or not


class Stale(Exception):
  """Somebody saved since: `work` is theirs, and the refused text is kept."""

  def __init__(self, work: Work):
    super().__init__('saved elsewhere in the meantime')
    self.work = work


class Store:
  """A folder's store. Threads have a connection each, and write in turn."""

  def __init__(self, folder: str | Path):
    self.path = Path(folder) / FILE
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self._local, self._turn = threading.local(), threading.Lock()
    self.example = functools.lru_cache(1024)(self._example)
    with self.writing() as db:
      for statement in _SCHEMA.split(';'):
        db.execute(statement)

  @property
  def db(self) -> sqlite3.Connection:
    if not hasattr(self._local, 'db'):
      db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
      db.row_factory = sqlite3.Row
      db.execute('pragma journal_mode = wal')
      db.execute('pragma synchronous = full')
      self._local.db = db
    return self._local.db

  @contextlib.contextmanager
  def writing(self) -> Iterator[sqlite3.Connection]:
    """A transaction: on the disk when it ends, or as if it had not begun."""
    with self._turn:
      self.db.execute('begin immediate')
      try:
        yield self.db
        self.db.execute('commit')
      except BaseException:
        with contextlib.suppress(sqlite3.Error):
          self.db.execute('rollback')
        raise

  def about(self) -> dict[str, Any]:
    rows = self.db.execute('select key, value from about')
    return {key: json.loads(value) for key, value in rows}

  def settle(self, **told: Any) -> dict[str, Any]:
    """What was said at the start, where it was said; else what is told now."""
    with self.writing() as db:
      db.executemany(
        'insert or ignore into about values (?, ?)',
        [(key, json.dumps(value)) for key, value in told.items()],
      )
    return self.about()

  def greet(self, person: str) -> None:
    with self.writing() as db:
      db.execute(
        'insert or ignore into people values (?, ?)', (person, time.time())
      )

  def item(self, number: int) -> sqlite3.Row | None:
    return self.db.execute(
      'select * from items where id = ?', (number,)
    ).fetchone()

  def _example(self, number: int) -> tuple[dict[str, Any], str]:
    """What an item is about, and its picture's name: it stays as it is."""
    row = self.item(number)
    if row is None:
      raise KeyError(number)
    return json.loads(row['example']), row['picture'] or ''

  def picture(self, name: str) -> bytes | None:
    row = self.db.execute(
      'select bytes from pictures where name = ?', (name,)
    ).fetchone()
    return row and row['bytes']

  def work(self, item: int, person: str) -> Work:
    return _work(self.db, item, person)

  def save(
    self,
    item: int,
    person: str,
    *,
    version: int,
    save: str,
    body: Mapping[str, Any],
    state: str = OPEN,
    final: bool = False,
  ) -> int:
    """Keeps a draft, or a record where there is a state; the new version.

    `save` names the attempt: one that is made again because its answer was lost
    on the way is not made twice.
    """
    stale = None
    with self.writing() as db:
      if done := db.execute(
        'select item, person, version, state from log where save = ?', (save,)
      ).fetchone():
        if (done['item'], done['person']) != (item, person):
          raise ValueError(f'save {save!r} was of another item')
        if done['state'] != 'refused':
          return done['version']
        raise Stale(_work(db, item, person))
      work = _work(db, item, person)
      if work.version != version:
        stale = work
      seq = db.execute(
        'insert into log (item, person, version, state, body, at, save) '
        'values (?, ?, ?, ?, ?, ?, ?)',
        (item, person, version + 1, 'refused' if stale else state,
         json.dumps(body), time.time(), save),
      ).lastrowid  # fmt: skip
      if not stale:
        _point(db, item, person, version + 1, seq, state, final)
    if stale:
      raise Stale(stale)
    return version + 1

  def history(self, item: int, person: str) -> list[dict]:
    """All that the person ever saved of it, the oldest first."""
    rows = self.db.execute(
      'select * from log where item = ? and person = ? order by seq',
      (item, person),
    )
    return [{**row, 'body': json.loads(row['body'])} for row in rows]


def _work(db: sqlite3.Connection, item: int, person: str) -> Work:
  row = db.execute(
    'select work.version, work.state, log.body from work '
    'left join log on log.seq = work.newest '
    'where work.item = ? and work.person = ?', (item, person),
  ).fetchone()  # fmt: skip
  if row is None:
    return Work()
  body = json.loads(row['body']) if row['body'] else None
  return Work(row['version'], row['state'], body)


def _point(db, item, person, version, seq, state, final) -> None:
  """At the newest text; a draft leaves the record that there is."""
  record = None if state == OPEN else seq
  db.execute(
    'insert into work values (?, ?, ?, ?, ?, ?, ?, ?) '
    'on conflict (item, person) do update set version = excluded.version, '
    'newest = excluded.newest, '
    'record = coalesce(excluded.record, record), '
    'state = case when excluded.record is null then state '
    'else excluded.state end, final = max(final, excluded.final)',
    (item, person, version, state, seq, record, int(final), time.time()),
  )
