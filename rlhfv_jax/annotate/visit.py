"""A visit: who is there, about which item, and from where the pages hang."""

from __future__ import annotations

import hashlib
import urllib.parse
from typing import Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from rlhfv_jax.annotate import sent

NAME = 'annotator'


def who(request: Request) -> str:
  """The person's name, which is asked for once."""
  name = urllib.parse.unquote(request.cookies.get(NAME, ''))
  name = name or request.app.state.settings.person
  if not name:
    raise HTTPException(401, 'who are you?')
  return sent.person(name)


async def told(request: Request) -> dict[str, Any]:
  return sent.parse(await request.body())


TOLD = Depends(told)


def item(request: Request, number: int) -> tuple[dict[str, Any], str]:
  """The example, and the name of its picture; nobody may change them."""
  try:
    return request.app.state.store.example(min(number, 2**53))
  except KeyError:
    raise HTTPException(404, f'there is no item {number}') from None


def asked(request: Request, told: dict[str, Any]) -> tuple[dict, str]:
  return item(request, sent.number(told, 'item', 1, 2**53))


def root(request: Request) -> str:
  """From this page to the first one: a proxy may have put us anywhere."""
  return '../' * (request.url.path.count('/') - 1) or './'


def to(request: Request, page: str) -> Response:
  return RedirectResponse(f'{root(request)}{page}', 303)


def draw(number: int, person: str, what: str) -> float:
  """In [0, 1): a lot for this person and item that falls the same again."""
  text = f'{what}\0{number}\0{person}'.encode()
  digest = hashlib.blake2b(text, digest_size=8).digest()
  return int.from_bytes(digest, 'big') / 2**64


def suggests(request: Request, number: int, person: str) -> bool:
  """Whether this person is shown what the model doubted in this item."""
  return draw(number, person, 'suggest') < request.app.state.settings.suggest


def first(number: int, person: str) -> int:
  """Which of two answers stands on top: a coin that falls the same."""
  return int(draw(number, person, 'first') < 0.5)
