"""Assets: templates, our own script and look, and the pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jinja2
from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from rlhfv_jax.data import imagetype

_HERE = Path(__file__).parent
_KINDS = {'.css': 'text/css', '.js': 'text/javascript'}
STATIC = {
  path.name: (path, _KINDS[path.suffix])
  for path in (_HERE.parent / 'report/page.css', *_HERE.glob('static/*.*s'))
}


def page(templates, settings: Any, name: str, **told: Any) -> Response:
  text = templates.get_template(name).render(settings=settings, **told)
  return HTMLResponse(text)


def templates() -> jinja2.Environment:
  found = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / 'templates'),
    autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
  )  # fmt: skip
  stamp = hashlib.blake2b(digest_size=6)
  for path, _ in STATIC.values():
    stamp.update(path.read_bytes())
  found.globals['stamp'] = stamp.hexdigest()
  return found


def picture(request: Request, name: str) -> Response:
  """Its own bytes, as a picture and as nothing else."""
  found = request.app.state.store.picture(name)
  kind = imagetype.of(found) if found else ''
  if not kind:
    raise HTTPException(404, 'there is no such picture')
  kind = {'jpg': 'jpeg', 'tif': 'tiff'}.get(kind, kind)
  forever = {'cache-control': 'private, max-age=31536000, immutable'}
  return Response(found, media_type=f'image/{kind}', headers=forever)


def static(request: Request, name: str) -> Response:
  if name not in STATIC:
    raise HTTPException(404, 'there is no such file')
  path, kind = STATIC[name]
  return Response(path.read_bytes(), media_type=kind)
