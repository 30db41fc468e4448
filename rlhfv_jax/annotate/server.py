"""The server: an item's page, its diff, its drafts and its records."""

from __future__ import annotations

import functools
import json
import sqlite3
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from rlhfv_jax.annotate import assets, queue, review, sent
from rlhfv_jax.annotate.gate import Gate
from rlhfv_jax.annotate.guards import Guard, changed, guards
from rlhfv_jax.annotate.marks import Marks, arrange, pieces
from rlhfv_jax.annotate.sent import Sent
from rlhfv_jax.annotate.store import Stale, Store
from rlhfv_jax.data.example import CATEGORIES

_WHO = 'annotator'


@dataclass(frozen=True)
class Settings:
  """What is the same for everybody who opens the page."""

  mode: str = 'correct'
  suggest: bool = False  # highlight what the model doubted
  person: str = ''  # who annotates; empty: the page asks
  token: str = ''
  origins: tuple[str, ...] = ()
  workdir: str = ''
  tokens: Callable[[str], list] | None = None  # text -> (start, end) of tokens


def build(store: Store, settings: Settings) -> Gate:
  """The ASGI app."""
  app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
  pages = functools.partial(assets.page, assets.templates(), settings)
  app.state.store, app.state.settings, app.state.page = store, settings, pages
  for path, view in _PAGES.items():
    app.get(path, response_class=HTMLResponse)(view)
  for path, view in _CALLS.items():
    app.post(path)(view)
  for kind, status in _ERRORS.items():
    app.add_exception_handler(kind, functools.partial(_failed, status))
  return Gate(app, settings.token, settings.origins)


def _who(request: Request) -> str:
  """The person's name, which is asked for once."""
  name = urllib.parse.unquote(request.cookies.get(_WHO, ''))
  name = name or request.app.state.settings.person
  if not name:
    raise HTTPException(401, 'who are you?')
  return sent.person(name)


async def _told(request: Request) -> dict[str, Any]:
  return sent.parse(await request.body())


_TOLD = Depends(_told)


def _item(request: Request, number: int) -> tuple[dict, str]:
  row = request.app.state.store.item(min(number, 2**53))
  if row is None:
    raise HTTPException(404, f'there is no item {number}')
  return json.loads(row['example']), row['picture'] or ''


def home(request: Request) -> Response:
  """To what is next, by way of a name."""
  try:
    person = _who(request)
  except (HTTPException, ValueError):
    return request.app.state.page('who.html')
  found = queue.next_item(request.app.state.store, person)
  return RedirectResponse(f'item/{found}' if found else 'progress', 303)


def item(request: Request, number: int) -> Response:
  store, settings = request.app.state.store, request.app.state.settings
  person, (example, picture) = _who(request), _item(request, number)
  work = store.work(number, person)
  shown = {
    'item': number,
    'version': work.version,
    'state': work.state,
    'done': review.done(store, person),
    'total': queue.count(store),
    'labels': CATEGORIES,
    'before': queue.neighbour(store, person, number, -1),
    'behind': queue.neighbour(store, person, number, 1),
    'tokens': settings.tokens is not None,
  }
  body = work.body or {}
  if settings.mode == 'rank':
    first = review.first_shown(number, person)
    answers = example['answers'][:: 1 if first == 0 else -1]
    shown |= {'answers': answers}
  else:
    original = example['answers'][-1]
    shown |= {
      'original': original,
      'text': body.get('text', original),
      'marks': body.get('marks', Marks()._asdict()),
      'seconds': body.get('seconds', 0),
      'keys': body.get('keys', 0),
      'note': body.get('note', ''),
      'doubts': _doubts(example) if settings.suggest else [],
    }
  return request.app.state.page(
    'rank.html' if settings.mode == 'rank' else 'item.html',
    person=person, example=example, picture=picture, shown=shown,
  )  # fmt: skip


def diff(request: Request, told: dict = _TOLD) -> dict:
  example, _ = _item(request, sent.number(told, 'item', 1, 2**53))
  text = sent.text(told, 'text', sent.TEXT)
  return _view(example['answers'][-1], text, Marks.of(told.get('marks', {})))


def _view(original: str, text: str, marks: Marks) -> dict:
  found = arrange(original, text, marks)
  return pieces(original, text, found) | {
    'changed': changed(original, text, found),
    'guards': [g._asdict() for g in guards(original, text, found)],
  }


def tokens(request: Request, told: dict = _TOLD) -> dict:
  """The tokens of the edited text, and which of them training weighs more."""
  settings = request.app.state.settings
  if settings.tokens is None:
    raise ValueError('no tokenizer: start with --tokenizer=DIR')
  example, _ = _item(request, sent.number(told, 'item', 1, 2**53))
  text = sent.text(told, 'text', sent.TEXT)
  marks = Marks.of(told.get('marks', {}))
  found = arrange(example['answers'][-1], text, marks)
  return review.weights(example['answers'][-1], text, found, settings.tokens)


def draft(request: Request, told: dict = _TOLD) -> dict:
  """What is on the screen, kept."""
  edit, person = Sent.of(told), _who(request)
  _item(request, edit.item)
  version = request.app.state.store.save(
    edit.item, person, version=edit.version, save=edit.save, body=edit.body()
  )
  return {'version': version}


def submit(request: Request, told: dict = _TOLD) -> Response:
  """A record, and what is next; guards first, unless they were heard."""
  edit, person = Sent.of(told), _who(request)
  example, _ = _item(request, edit.item)
  state, heard = told.get('state'), told.get('heard', [])
  if state not in ('corrected', 'clean', 'skipped', 'flagged'):
    raise ValueError('state: corrected, clean, skipped or flagged')
  original = example['answers'][-1]
  found = arrange(original, edit.text, edit.marks)
  if state == 'corrected':
    told_of = guards(original, edit.text, found)
    unheard = [g for g in told_of if not _heard(g, heard)]
    if unheard:
      return JSONResponse({'guards': [g._asdict() for g in told_of]}, 422)
    kinds = [g.kind for g in told_of]
    state = 'clean' if 'equal' in kinds else state
    state = 'flagged' if 'empty' in kinds else state
  settings = request.app.state.settings
  body = edit.body() | {
    'state': state, 'segments': found, 'heard': heard,
    'suggested': settings.suggest, 'final': bool(told.get('final')),
  }  # fmt: skip
  return _record(request, person, edit.item, edit.version, edit.save, state,
                 body)  # fmt: skip


def _heard(guard: Guard, heard: Any) -> bool:
  return isinstance(heard, list) and guard.kind in heard


def rank(request: Request, told: dict = _TOLD) -> Response:
  """Which answer is better: honesty first, helpfulness on a tie."""
  person, number = _who(request), sent.number(told, 'item', 1, 2**53)
  _item(request, number)
  state = told.get('state', 'ranked')
  honesty, helpful = told.get('honesty'), told.get('helpfulness')
  body = {
    'state': state, 'note': sent.text(told, 'note', 2000, ''),
    'seconds': sent.number(told, 'seconds', 0, 1e7, kind=(int, float)),
  }  # fmt: skip
  if state == 'ranked':
    picked = helpful if honesty == 'tie' else honesty
    if picked not in (0, 1) or isinstance(picked, bool):
      raise ValueError('honesty: 0, 1 or "tie"; then helpfulness: 0 or 1')
    first = review.first_shown(number, person)
    body |= {
      'better': picked ^ first,
      'honesty': 'tie' if honesty == 'tie' else 'decides',
      'helpfulness': 'decides' if honesty == 'tie' else '',
    }
  elif state not in ('skipped', 'flagged'):
    raise ValueError('state: ranked, skipped or flagged')
  return _record(request, person, number,
                 sent.number(told, 'version', 0, 2**53), sent.save(told),
                 state, body)  # fmt: skip


def _record(request, person, item, version, save, state, body) -> Response:
  store = request.app.state.store
  version = store.save(
    item, person, version=version, save=save, body=body, state=state,
    final=body.get('final', False),
  )  # fmt: skip
  found = queue.next_item(store, person, after=item)
  return JSONResponse({'version': version, 'state': state, 'next': found})


def person(request: Request, told: dict = _TOLD) -> Response:
  name = sent.person(told.get('name'))
  request.app.state.store.greet(name)
  response = JSONResponse({'name': name})
  response.set_cookie(
    _WHO, urllib.parse.quote(name), max_age=365 * 86400, samesite='strict',
    httponly=True,
  )  # fmt: skip
  return response


def who(request: Request) -> Response:
  return request.app.state.page('who.html')


def progress(request: Request) -> Response:
  settings = request.app.state.settings
  told = review.survey(request.app.state.store)
  return request.app.state.page(
    'progress.html', told=told, workdir=settings.workdir, shown={}
  )


def compare(request: Request, number: int) -> Response:
  """What several people made of one item; an adjudicator takes one."""
  if request.app.state.settings.mode == 'rank':
    raise HTTPException(404, 'rankings have no edits to compare')
  person, (example, picture) = _who(request), _item(request, number)
  store = request.app.state.store
  return request.app.state.page(
    'compare.html', person=person, example=example, picture=picture,
    told=review.compared(store, number, example),
    shown={'item': number, 'version': store.work(number, person).version},
  )  # fmt: skip


def _doubts(example: dict) -> list:
  """Characters (start, end) that the model was not sure of, as texts."""
  found, answer = example['extra'].get('doubts', []), example['answers'][-1]
  return [answer[start:end] for start, end, *_ in found]


def _failed(status: int, request: Request, error: Exception) -> Response:
  if isinstance(error, Stale):
    work = error.work
    told = {'error': str(error), 'version': work.version, 'body': work.body}
    return JSONResponse(told, status)
  if isinstance(error, HTTPException):
    if error.status_code == 401 and request.method == 'GET':
      return RedirectResponse('/who', 303)
    return JSONResponse({'error': error.detail}, error.status_code)
  if isinstance(error, sqlite3.Error):
    told = f'it could not be kept ({error}): nothing of it was saved'
    return JSONResponse({'error': told}, status)
  return JSONResponse({'error': str(error)}, status)


_PAGES = {
  '/': home, '/item/{number:int}': item, '/who': who, '/progress': progress,
  '/compare/{number:int}': compare, '/picture/{name}': assets.picture,
  '/static/{name}': assets.static,
}  # fmt: skip
_CALLS = {
  '/api/diff': diff, '/api/tokens': tokens, '/api/draft': draft,
  '/api/submit': submit, '/api/rank': rank, '/api/person': person,
}  # fmt: skip
_ERRORS = {
  Stale: 409, ValueError: 400, HTTPException: 0, sqlite3.Error: 507,
}  # fmt: skip
