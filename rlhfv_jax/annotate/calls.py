"""Calls: what an open page asks for and hands in.

The diff is made while somebody types, so it waits for no thread and no disk.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from rlhfv_jax.annotate import doubts, labels, queue, review, sent, visit
from rlhfv_jax.annotate.guards import Guard, changed, guards
from rlhfv_jax.annotate.marks import Marks, arrange, pieces
from rlhfv_jax.annotate.sent import Sent
from rlhfv_jax.annotate.store import OPEN


async def diff(request: Request, told: dict = visit.TOLD) -> Response:
  """What changed, as the page shows it."""
  example, _ = visit.asked(request, told)
  original, text = example['answers'][-1], sent.text(told, 'text', sent.TEXT)
  found = arrange(original, text, Marks.of(told.get('marks', {})))
  share = changed(original, text, found)
  shown = pieces(original, text, found) | {'changed': share}
  if told.get('suggested') is True:
    shown['runs'] = doubts.runs(original, found, doubts.told(example))
  return JSONResponse(shown)


def tokens(request: Request, told: dict = visit.TOLD) -> dict:
  """The tokens of both texts, and which of them training weighs more."""
  settings = request.app.state.settings
  if settings.tokens is None:
    raise ValueError('no tokenizer: start with --tokenizer=DIR')
  example, _ = visit.asked(request, told)
  original, text = example['answers'][-1], sent.text(told, 'text', sent.TEXT)
  found = arrange(original, text, Marks.of(told.get('marks', {})))
  return review.weights(original, text, found, settings.tokens)


def draft(request: Request, told: dict = visit.TOLD) -> dict:
  """What is on the screen, kept."""
  edit, person = Sent.of(told), visit.who(request)
  visit.item(request, edit.item)
  version = request.app.state.store.save(
    edit.item, person, version=edit.version, save=edit.save, body=edit.body()
  )
  return {'version': version}


def submit(request: Request, told: dict = visit.TOLD) -> Response:
  """A record, and what is next; guards first, unless they were heard."""
  edit, person = Sent.of(told), visit.who(request)
  example, _ = visit.item(request, edit.item)
  state, heard = told.get('state'), told.get('heard', [])
  if state not in ('corrected', 'clean', 'skipped', 'flagged'):
    raise ValueError('state: corrected, clean, skipped or flagged')
  original = example['answers'][-1]
  found = arrange(original, edit.text, edit.marks)
  if state in ('corrected', 'clean'):
    told_of = guards(original, edit.text, found, clean=state == 'clean')
    if not _heard(told_of, heard):
      return _warning(told_of)
    kinds = [g.kind for g in told_of]
    state = 'clean' if 'equal' in kinds else state
    state = 'flagged' if 'empty' in kinds else state
  body = edit.body() | {
    'state': state, 'segments': found, 'heard': heard,
    'suggested': visit.suggests(request, edit.item, person),
    'final': bool(told.get('final')),
  }  # fmt: skip
  return _record(request, person, told, state, body)


def rank(request: Request, told: dict = visit.TOLD) -> Response:
  """Which answer is better: honesty first, helpfulness on a tie."""
  person = visit.who(request)
  visit.asked(request, told)
  state, body = told.get('state', 'ranked'), _worked(told)
  honesty, helpful = told.get('honesty'), told.get('helpfulness')
  if state == 'ranked':
    picked = helpful if honesty == 'tie' else honesty
    if picked not in (0, 1) or isinstance(picked, bool):
      raise ValueError('honesty: 0, 1 or "tie"; then helpfulness: 0 or 1')
    body |= {
      'better': picked ^ visit.first(told['item'], person),
      'honesty': 'tie' if honesty == 'tie' else 'decides',
      'helpfulness': 'decides' if honesty == 'tie' else '',
    }
  elif state not in ('skipped', 'flagged'):
    raise ValueError('state: ranked, skipped or flagged')
  return _record(request, person, told, state, body | {'state': state})


def label(request: Request, told: dict = visit.TOLD) -> Response:
  """What is wrong in an answer: a draft while it is open, then a record."""
  person, (example, _) = visit.who(request), visit.asked(request, told)
  answer, state = example['answers'][-1], told.get('state', OPEN)
  if state not in (OPEN, 'labelled', 'clean', 'skipped', 'flagged'):
    raise ValueError('state: open, labelled, clean, skipped or flagged')
  found, heard = labels.marked(told, answer), told.get('heard', [])
  if state in ('labelled', 'clean'):
    told_of = labels.guards(found, state == 'clean')
    if not _heard(told_of, heard):
      return _warning(told_of)
    found = [] if state == 'clean' else found
    state = 'labelled'
  body = _worked(told) | {
    'marked': found, 'state': state, 'segments': labels.segments(answer, found),
    'final': told.get('final') is True,
  }  # fmt: skip
  return _record(request, person, told, state, body)


def person(request: Request, told: dict = visit.TOLD) -> Response:
  name = sent.person(told.get('name'))
  request.app.state.store.greet(name)
  response = JSONResponse({'name': name})
  response.set_cookie(
    visit.NAME, urllib.parse.quote(name), max_age=365 * 86400, samesite='lax',
    httponly=True,
  )  # fmt: skip
  return response


def _worked(told: dict) -> dict[str, Any]:
  return {
    'seconds': sent.number(told, 'seconds', 0, 1e7, kind=(int, float)),
    'keys': sent.number(told, 'keys', 0, 10**7),
    'note': sent.text(told, 'note', 2000, ''),
  }


def _heard(told_of: list[Guard], heard: Any) -> bool:
  return not told_of or (
    isinstance(heard, list) and all(g.kind in heard for g in told_of)
  )


def _warning(told_of: list[Guard]) -> Response:
  return JSONResponse({'guards': [g._asdict() for g in told_of]}, 422)


def _record(
  request: Request, person: str, told: dict, state: str, body: dict
) -> Response:
  store, number = request.app.state.store, told['item']
  version = store.save(
    number, person, version=sent.number(told, 'version', 0, 2**53),
    save=sent.save(told), body=body, state=state,
    final=body.get('final', False),
  )  # fmt: skip
  if state == OPEN:
    return JSONResponse({'version': version})
  found = queue.next_item(store, person, after=number)
  return JSONResponse({'version': version, 'state': state, 'next': found})
