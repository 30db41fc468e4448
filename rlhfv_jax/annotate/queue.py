"""The queue: who is asked about which item, and how many are asked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import replace

from rlhfv_jax.annotate.store import OPEN, Store
from rlhfv_jax.data import imagetype
from rlhfv_jax.data.example import Example, to_dict

# Who opened an item and did not submit it keeps it from others so long.
PATIENCE = 4 * 3600.0
_BLOCK = 256


def add(store: Store, examples: Iterable[Example], *, double: float) -> int:
  """Puts examples behind those that are there; how many were new.

  A share `double` of them is given to two people: which ones, their names
  decide. What is there already stays as it is.
  """
  before = count(store)
  block = []
  for example in examples:
    block.append(example)
    if len(block) == _BLOCK:
      _insert(store, block, double)
      block = []
  _insert(store, block, double)
  return count(store) - before


def count(store: Store) -> int:
  return store.db.execute('select count(*) from items').fetchone()[0]


def doubted(store: Store) -> bool:
  """Whether any item says where the model was unsure."""
  return store.db.execute(
    'select exists (select 1 from items where example like \'%"doubts": [%\')'
  ).fetchone()[0]


def _insert(store: Store, examples: list[Example], double: float) -> None:
  with store.writing() as db:
    for example in examples:
      picture = None
      if example.image and imagetype.of(example.image):
        picture = hashlib.blake2b(example.image, digest_size=16).hexdigest()
        db.execute(
          'insert or ignore into pictures values (?, ?)',
          (picture, example.image),
        )
      told = to_dict(replace(example, image=None))
      text = json.dumps(told, sort_keys=True)
      digest = hashlib.blake2b(f'{text}\0{picture}'.encode()).hexdigest()
      wanted = 2 if int(digest[-8:], 16) < double * 2**32 else 1
      db.execute(
        'insert or ignore into items (key, example, picture, wanted) '
        'values (?, ?, ?, ?)',
        (digest[:32], text, picture, wanted),
      )


def next_item(store: Store, person: str, *, after: int = 0) -> int | None:
  """The item that the person goes on with, which is theirs from now on.

  First what they began, then the first that too few people have; behind
  `after`, where one is left there.
  """
  with store.writing() as db:
    now = time.time()
    begun = db.execute(
      f"select item from work where person = ? and state = '{OPEN}' "
      'order by item <= ?, item limit 1', (person, after),
    ).fetchone()  # fmt: skip
    if begun:
      return begun['item']
    free = db.execute(
      'select id from items where not exists '
      '(select 1 from work where item = id and person = ?1) '
      'and wanted > (select count(*) from work where item = id '
      f"and state != 'skipped' and (state != '{OPEN}' or assigned > ?2)) "
      'order by id <= ?3, id limit 1', (person, now - PATIENCE, after),
    ).fetchone()  # fmt: skip
    if free is None:
      return None
    db.execute(
      'insert into work (item, person, version, state, assigned) '
      'values (?, ?, 0, ?, ?)', (free['id'], person, OPEN, now),
    )  # fmt: skip
    return free['id']


def neighbour(store: Store, person: str, item: int, step: int) -> int | None:
  """The item before or behind among those that the person has."""
  order, sign = ('desc', '<') if step < 0 else ('asc', '>')
  row = store.db.execute(
    f'select item from work where person = ? and item {sign} ? '
    f'order by item {order} limit 1', (person, item),
  ).fetchone()  # fmt: skip
  return row and row['item']
