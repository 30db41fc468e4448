"""The gate: which requests are let in, and what each answer forbids a browser.

On loopback the address in the request must be one of this machine, so that no
other site can take its name (DNS rebinding). Anywhere else a token is asked
for. What changes something comes from this page alone.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

LIMIT = 2**19  # bytes of a request
TOKEN = 'annotate_token'
_HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; "
  "style-src 'self'; img-src 'self' data:; connect-src 'self'; "
  "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}


@dataclass(frozen=True)
class Gate:
  """ASGI around the app."""

  app: object
  token: str = ''  # empty: loopback alone
  origins: tuple[str, ...] = ()  # hosts of a proxy; '.example.org' and below

  async def __call__(self, scope, receive, send) -> None:
    if scope['type'] != 'http':
      if scope['type'] == 'lifespan':
        await self.app(scope, receive, send)
      return
    headers = _headers(scope)
    given = _tokens(headers, scope)
    refused = self._refusal(scope, headers, given)
    if not refused:
      body = await _body(receive, headers)
      refused = None if body is not None else (
        413, f'a request is at most {LIMIT:,} bytes'
      )  # fmt: skip
    if refused:
      await _answer(send, *refused)
      return
    asked = _query_token(scope)
    cookie = f'{TOKEN}={asked}; Path=/; HttpOnly; SameSite=Lax' * bool(asked)
    await self.app(scope, _once(body, receive), _sealed(send, cookie))

  def _refusal(self, scope, headers, given) -> tuple[int, str] | None:
    host = headers.get('host', '')
    if self.token:
      if not any(secrets.compare_digest(g, self.token.encode()) for g in given):
        return 403, 'the token is missing or wrong: open the address that '\
          'the server printed'  # fmt: skip
    elif not is_loopback(_name(host)):
      return 403, f'{host[:80]!r} is not this machine: start with --token'
    if scope['method'] in ('GET', 'HEAD'):
      return None
    if scope['method'] != 'POST':
      return 405, 'GET or POST'
    if headers.get('content-type', '').split(';')[0] != 'application/json':
      return 415, 'application/json'
    origin, site = headers.get('origin'), headers.get('sec-fetch-site')
    if origin is None:
      return (403, 'from another site') if site not in (
        None, 'same-origin') else None  # fmt: skip
    where = urlsplit(origin).netloc
    if where != host and not self._known(_name(where)):
      return 403, f'from another site, {origin[:80]!r}'
    return None

  def _known(self, name: str) -> bool:
    return any(
      name == known.lstrip('.') or (known[0] == '.' and name.endswith(known))
      for known in self.origins
    )


def is_loopback(name: str) -> bool:
  try:
    return name == 'localhost' or ipaddress.ip_address(name).is_loopback
  except ValueError:
    return False


def _name(host: str) -> str:
  try:
    return urlsplit(f'//{host}').hostname or ''
  except ValueError:
    return ''


def _headers(scope) -> dict[str, str]:
  return {k.decode('latin-1'): v.decode('latin-1') for k, v in scope['headers']}


def _query_token(scope) -> str:
  query = scope.get('query_string', b'').decode('latin-1')
  found = parse_qs(query).get('token', [''])[0]
  return found if re.fullmatch(r'[\w-]{1,200}', found, re.ASCII) else ''


def _tokens(headers, scope) -> list[bytes]:
  found = [headers.get('x-token', ''), _query_token(scope)]
  try:
    cookie = SimpleCookie(headers.get('cookie', ''))
    found += [cookie[TOKEN].value] if TOKEN in cookie else []
  except CookieError:
    pass
  return [text.encode('latin-1', 'replace') for text in found if text]


async def _body(receive, headers) -> bytes | None:
  """All of it, or nothing where it is too long: the rest is not read."""
  length = headers.get('content-length', '0')
  if not length.isdigit() or int(length) > LIMIT:
    return None
  body, more = b'', True
  while more:
    message = await receive()
    if message['type'] == 'http.disconnect':
      return None
    body += message.get('body', b'')
    more = message.get('more_body', False)
    if len(body) > LIMIT:
      return None
  return body


def _once(body: bytes, receive):
  waiting = [{'type': 'http.request', 'body': body, 'more_body': False}]

  async def next_message():
    return waiting.pop() if waiting else await receive()

  return next_message


def _sealed(send, cookie: str):
  async def sealed(message):
    if message['type'] == 'http.response.start':
      names = {name.lower() for name, _ in message['headers']}
      told = dict(_HEADERS)
      if b'cache-control' not in names:
        told['cache-control'] = 'no-store'
      if cookie:
        told['set-cookie'] = cookie
      message['headers'] = [
        *message['headers'],
        *((k.encode(), v.encode()) for k, v in told.items()),
      ]
    await send(message)

  return sealed


async def _answer(send, status: int, sentence: str) -> None:
  body = json.dumps({'error': sentence}).encode()
  send = _sealed(send, '')
  headers = [
    (b'content-type', b'application/json'),
    (b'content-length', str(len(body)).encode()),
    (b'connection', b'close'),
  ]
  await send(
    {'type': 'http.response.start', 'status': status, 'headers': headers}
  )
  await send({'type': 'http.response.body', 'body': body})
