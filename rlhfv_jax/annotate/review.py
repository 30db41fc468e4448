"""The review: how far everybody is, how far they agree, what training sees."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from rlhfv_jax.annotate import agreement, charts
from rlhfv_jax.annotate.marks import LABELS, Segment, pieces
from rlhfv_jax.annotate.store import OPEN, Store
from rlhfv_jax.benchmarks.mhumaneval import TYPES
from rlhfv_jax.data import segments
from rlhfv_jax.data.formats.annotations import PAIRS

# RLHF-V's own corrections (arXiv 2312.00849, section 2), in percent.
PAPER = {'object': 41.2, 'position': 20.3, 'number': 16.5, 'attribute': 10.0,
         'action': 5.3, 'other': 6.8}  # fmt: skip

_COMPARED = ('corrected', 'clean', 'labelled')


def done(store: Store, person: str) -> int:
  return store.db.execute(
    'select count(*) from work where person = ? and state != ?', (person, OPEN)
  ).fetchone()[0]


def weights(
  original: str,
  text: str,
  found: Sequence[Segment],
  tokens: Callable[[str], list],
) -> dict[str, list]:
  """Each side's tokens, and whether training weighs them as corrected."""
  told = {}
  for name, said, side in (('chosen', text, 0), ('rejected', original, 1)):
    spans = [s[side] for s in found if s.label != 'style']
    offsets = tokens(said)
    roles = segments.roles_from_spans(spans, offsets)
    ends = [0, *(end for _, end in offsets)]
    told[name] = [
      {'before': said[last:start], 'text': said[start:end],
       'corrected': bool(role == 2)}
      for (start, end), role, last in zip(offsets, roles, ends, strict=False)
    ]  # fmt: skip
  return told


def records(store: Store) -> list[dict[str, Any]]:
  """The newest record of everybody on every item."""
  rows = store.db.execute(
    'select work.item, work.person, work.state, work.final, log.body, log.at '
    'from work join log on log.seq = work.record order by log.at'
  )
  return [{**row, 'body': json.loads(row['body'])} for row in rows]


def survey(store: Store) -> dict[str, Any]:
  """What the progress page says."""
  rows = records(store)
  total, wanted = store.db.execute(
    'select count(*), coalesce(sum(wanted), 0) from items'
  ).fetchone()
  states = Counter(row['state'] for row in rows)
  found = [s for row in rows for s in segments_of(row)]
  kinds = Counter(s.label or 'none' for s in found)
  labelled = [row for row in rows if row['state'] == 'labelled']
  known = TYPES if labelled else PAPER
  seconds = [row['body'].get('seconds', 0) for row in rows]
  lines = agreement.between(_by_person(rows))
  pairs = len({row['item'] for row in rows if row['state'] in PAIRS})
  return {
    'items': total, 'wanted': wanted, 'records': len(rows), 'states': states,
    'touched': len({row['item'] for row in rows}), 'pairs': pairs,
    'wrong': len({row['item'] for row in labelled if segments_of(row)}),
    'segments': len(found) / max(states['corrected'] + len(labelled), 1),
    'suggested': _suggested(rows),
    'seconds': median(seconds) if seconds else 0,
    'people': _people(rows), 'agreement': lines,
    'f1': mean(line['f1'] for line in lines) if lines else None,
    'differ': _differing(lines, rows),
    'kinds': charts.bars(
      [(k, kinds[k], None if labelled else PAPER.get(k))
       for k in (*LABELS, 'none') if k in known or kinds[k]]
    ) if found else '',
    'times': charts.histogram(seconds) if len(seconds) > 1 else '',
    'growth': charts.growth([row['at'] for row in rows])
    if len(rows) > 1 else '',
  }  # fmt: skip


def segments_of(row: dict[str, Any]) -> list[Segment]:
  return [
    Segment(tuple(new), tuple(old), label)
    for new, old, label in row['body'].get('segments', [])
  ]


def compared(store: Store, item: int, example: dict) -> list[dict[str, Any]]:
  """Everybody's record of one item, as the page shows an edit."""
  original, told = example['answers'][-1], []
  for row in records(store):
    if row['item'] == item:
      body, found = row['body'], segments_of(row)
      clean = row['state'] == 'clean'
      text = original if clean else body.get('text', original)
      kept = {k: body[k] for k in ('text', 'marks', 'marked') if k in body}
      told.append({
        **row, 'view': pieces(original, text, [] if clean else found),
        'taken': kept | {'state': row['state']},
      })  # fmt: skip
  return told


def _by_person(rows: list[dict]) -> dict[str, dict[int, list[Segment]]]:
  """What can be compared: corrections, and answers without an error."""
  found: dict[str, dict[int, list]] = defaultdict(dict)
  for row in rows:
    if row['state'] in _COMPARED and not row['final']:
      clean = row['state'] == 'clean'
      found[row['person']][row['item']] = [] if clean else segments_of(row)
  return found


def _people(rows: list[dict]) -> list[dict[str, Any]]:
  groups = defaultdict(list)
  for row in rows:
    groups[row['person']].append(row)
  return [
    {
      'name': name,
      'records': len(those),
      'states': Counter(row['state'] for row in those),
      'seconds': median(row['body'].get('seconds', 0) for row in those),
      'segments': mean(len(segments_of(row)) for row in those),
    }
    for name, those in sorted(groups.items())
  ]


def _suggested(rows: list[dict]) -> list[dict[str, Any]]:
  """Corrections with the model's doubts shown and without, if there are both:
  what suggestions change is their difference."""
  groups = defaultdict(list)
  for row in rows:
    if row['state'] in ('corrected', 'clean'):
      groups[bool(row['body'].get('suggested'))].append(row)
  return [
    {
      'shown': shown,
      'records': len(those),
      'segments': mean(len(segments_of(row)) for row in those),
      'seconds': median(row['body'].get('seconds', 0) for row in those),
    }
    for shown, those in sorted(groups.items())
    if len(groups) > 1
  ]


def _differing(lines: list[dict], rows: list[dict]) -> list[dict[str, Any]]:
  """Items of which there are two versions and nobody has decided: another
  place, category or text. The worst first."""
  decided = {row['item'] for row in rows if row['final']}
  versions: dict[int, set[str]] = defaultdict(set)
  for row in rows:
    body, clean = row['body'], row['state'] == 'clean'
    if row['state'] in _COMPARED:
      kept = () if clean else (body.get('text'), body.get('segments'))
      versions[row['item']].add(json.dumps(kept))
  worst: dict[int, float] = {}
  for line in lines:
    for item, f1 in zip(line['items'], line['each'], strict=True):
      worst[item] = min(f1, worst.get(item, 1.0))
  return [
    {'item': item, 'f1': f1}
    for item, f1 in sorted(worst.items(), key=lambda pair: (pair[1], pair[0]))
    if len(versions[item]) > 1 and item not in decided
  ]
