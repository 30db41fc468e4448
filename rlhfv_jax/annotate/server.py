"""The server: which page and which call is whose, and what errors become."""

from __future__ import annotations

import functools
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from rlhfv_jax.annotate import assets, calls, pages, visit
from rlhfv_jax.annotate.gate import Gate
from rlhfv_jax.annotate.store import Stale, Store


@dataclass(frozen=True)
class Settings:
  """What is the same for everybody who opens the page."""

  mode: str = 'correct'
  suggest: float = 0.0  # share of items in which the model's doubts are shown
  person: str = ''  # who annotates; empty: the page asks
  token: str = ''
  origins: tuple[str, ...] = ()
  workdir: str = ''
  tokens: Callable[[str], list] | None = None  # text -> (start, end) of tokens


def build(store: Store, settings: Settings) -> Gate:
  """The ASGI app."""
  app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
  app.state.store, app.state.settings = store, settings
  app.state.page = functools.partial(assets.page, assets.templates(), settings)
  app.state.name = store.settle(name=secrets.token_hex(8))['name']
  for path, view in _PAGES.items():
    app.get(path, response_class=HTMLResponse)(view)
  for path, view in _CALLS.items():
    app.post(path)(view)
  for kind, status in _ERRORS.items():
    app.add_exception_handler(kind, functools.partial(_failed, status))
  return Gate(app, settings.token, settings.origins)


def _failed(status: int, request: Request, error: Exception) -> Response:
  if isinstance(error, Stale):
    work = error.work
    told = {'error': str(error), 'version': work.version, 'body': work.body}
    return JSONResponse(told, status)
  if isinstance(error, HTTPException):
    if error.status_code == 401 and request.method == 'GET':
      return visit.to(request, 'who')
    return JSONResponse({'error': error.detail}, error.status_code)
  if isinstance(error, sqlite3.Error):
    told = f'it could not be kept ({error}): nothing of it was saved'
    return JSONResponse({'error': told}, status)
  return JSONResponse({'error': str(error)}, status)


_PAGES = {
  '/': pages.home, '/item/{number:int}': pages.item, '/who': pages.who,
  '/progress': pages.progress, '/compare/{number:int}': pages.compare,
  '/picture/{name}': assets.picture, '/static/{name}': assets.static,
}  # fmt: skip
_CALLS = {
  '/api/diff': calls.diff, '/api/tokens': calls.tokens,
  '/api/draft': calls.draft, '/api/submit': calls.submit,
  '/api/rank': calls.rank, '/api/label': calls.label,
  '/api/person': calls.person,
}  # fmt: skip
_ERRORS = {
  Stale: 409, ValueError: 400, HTTPException: 0, sqlite3.Error: 507,
}  # fmt: skip
