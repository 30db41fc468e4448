"""Twins: rows, answers and pictures that a set has twice, or almost twice."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

import numpy as np

from rlhfv_jax.doctor import alike
from rlhfv_jax.doctor.overlap import HeldOut
from rlhfv_jax.doctor.pictures import ALIKE_BITS
from rlhfv_jax.doctor.problems import Case, Found
from rlhfv_jax.doctor.survey import Record, Survey


def twins(seen: Survey, held: HeldOut) -> Iterator[Found]:
  """Each row that has one before it, with which one that is."""
  records = seen.records
  yield from _again('duplicate id', records, lambda r: r.id)
  yield from _again('duplicate rows', records, lambda r: _place(r) and _all(r))
  yield from _contradictions(records)
  looks, found = _alike_pictures(seen, held)
  yield from found
  yield from _alike_answers(seen, looks)


def _place(record: Record) -> tuple | None:
  """What was asked about what; a row of no answer says nothing there."""
  return (record.picture, record.asked) if record.said else None


def _all(record: Record) -> tuple:
  return (*_place(record), record.said)


def _again(
  kind: str, records: Iterable[Record], key: Callable[[Record], Hashable]
) -> Iterator[Found]:
  first: dict[Hashable, Record] = {}
  for record in records:
    its = key(record)
    if its is None:
      continue
    before = first.setdefault(its, record)
    if before is not record:
      yield kind, _as(record, before)


def _as(record: Record, before: Record, what: str = 'as') -> Case:
  return Case(record.index, record.id, f'{what} row {before.index}')


def _contradictions(records: Iterable[Record]) -> Iterator[Found]:
  """Pairs that prefer what an earlier one about the same rejects."""
  first: dict[tuple, Record] = {}
  for record in records:
    if len(record.said) == 2 and record.said[0] != record.said[1]:
      opposite = (*_place(record), record.said[::-1])
      if opposite in first:
        yield 'contradiction', _as(record, first[opposite], 'the reverse of')
      first.setdefault(_all(record), record)


def _alike_pictures(
  seen: Survey, held: HeldOut
) -> tuple[dict[str, int], list[Found]]:
  """By digest, the number of a picture's look; and what that brings to light.

  Held-out pictures stand behind the set's own.
  """
  digests = [d for d, shown in seen.pictures.items() if shown.fingerprint]
  marks = [seen.pictures[digest].fingerprint for digest in digests]
  own = len(marks)
  marks += held.fingerprints
  pairs = alike.pictures(marks, within=ALIKE_BITS)
  group = alike.groups(pairs[(pairs < own).all(axis=1)], own)
  looks = dict(zip(digests, group.tolist(), strict=True))
  exact = held.digests.keys()
  known = {
    digests[a]: held.fingerprints[marks[b]]
    for a, b in pairs[(pairs[:, 0] < own) & (pairs[:, 1] >= own)].tolist()
    if digests[a] not in exact
  }
  found, first = [], {}
  for record in seen.records:
    if (look := looks.get(record.picture)) is None:
      continue
    before = first.setdefault(look, record)
    if record.picture != before.picture:
      found.append(('alike pictures', _as(record, before, 'the picture of')))
    if record.picture in known:
      file = known[record.picture]
      case = Case(record.index, record.id, f'looks like a picture of {file}')
      found.append(('evaluation picture', case))
  return looks, found


def _alike_answers(seen: Survey, looks: dict[str, int]) -> Iterator[Found]:
  """Preferred answers much alike: about one picture, or about several."""
  if not seen.signed:
    return
  numbers, signatures = zip(*seen.signed, strict=True)
  unique, which = np.unique(np.stack(signatures), axis=0, return_inverse=True)
  group = alike.groups(alike.texts(unique), len(unique))[which]
  first: dict[int, Record] = {}
  near: dict[tuple, Record] = {}
  for number, its in zip(numbers, group.tolist(), strict=True):
    record = seen.records[number]
    picture = looks.get(record.picture, record.picture)
    before = near.setdefault((its, picture), record)
    if before is not record:
      if _all(before) != _all(record):
        yield 'near-duplicate rows', _as(record, before, 'much like')
    elif (other := first.setdefault(its, record)) is not record:
      yield 'alike answers', _as(record, other, 'much like the answer of')
