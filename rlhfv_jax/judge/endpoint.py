"""An OpenAI-compatible endpoint: many requests at a time, tried again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import httpx
from tqdm import tqdm

from rlhfv_jax.judge import reply

LONGEST = 60.0  # seconds between two tries
BIGGEST = 10_000_000  # bytes of a reply
IN_A_ROW = 8  # failures after which the endpoint is taken to be down

Outcome = tuple[dict | None, str]  # the reply, or why there is none


def fetch(
  bodies: Mapping[str, dict], judge: Any, *, name: str
) -> Iterator[tuple[str, dict | None, str]]:
  """(key, reply, '') or (key, None, why) for each, as they come.

  Where many fail in a row the rest is not asked: they fail with the last.
  """
  stopped = threading.Event()
  bar = tqdm(total=len(bodies), desc=name, unit='reply', dynamic_ncols=True)
  pool = ThreadPoolExecutor(judge.concurrency)
  with contextlib.ExitStack() as stack:
    stack.callback(bar.close)
    client = stack.enter_context(_client(judge))
    stack.callback(pool.shutdown, cancel_futures=True)
    stack.callback(stopped.set)
    sent = {
      pool.submit(_ask, client, body, judge, stopped): key
      for key, body in bodies.items()
    }
    failed, row = 0, 0
    for future in as_completed(sent):
      given, why = future.result()
      row = 0 if given is not None else row + 1
      failed += given is None
      if row >= max(IN_A_ROW, 2 * judge.concurrency):
        stopped.set()
      bar.update()
      bar.set_postfix(failed=failed, refresh=False)
      yield sent[future], given, why


def _client(judge: Any) -> httpx.Client:
  key = os.environ.get(judge.key_env, '')
  return httpx.Client(
    headers={'Authorization': f'Bearer {key}'} if key else {},
    timeout=judge.timeout,
    limits=httpx.Limits(max_connections=judge.concurrency),
  )


def _ask(
  client: httpx.Client, body: dict, judge: Any, stopped: threading.Event
) -> Outcome:
  """One request, until it is answered or there is no more use in trying."""
  why, wait = 'not asked: too many before it failed', 0.0
  for attempt in range(judge.retries + 1):
    if stopped.wait(wait):
      break
    wait = judge.backoff * 2**attempt * random.uniform(0.5, 1)
    try:
      status, head, content = _post(client, body, judge)
    except httpx.RequestError as error:  # on the way, or nonsense when it came
      why = f'{type(error).__name__} {error}'.strip()
    except httpx.InvalidURL as error:
      raise ValueError(f'config.judge.url = {judge.url}: {error}') from error
    else:
      given = _json(content)
      if status == 200 and reply.valid(given):
        return given, ''
      said = f'HTTP {status} {content[:200].decode(errors="replace")}'.strip()
      _give_up(status, said, judge)
      why = f'no chat completion: {said}' if status == 200 else said
      if status != 200 and status not in (408, 409, 425, 429) and status < 500:
        break
      wait = max(wait, _after(head))
    wait = min(wait, LONGEST)
  return None, why


def _post(
  client: httpx.Client, body: dict, judge: Any
) -> tuple[int, httpx.Headers, bytes]:
  """Status, head and content. A timeout is for the whole of it."""
  until, content = time.monotonic() + judge.timeout, bytearray()
  url = f'{judge.url.rstrip("/")}/chat/completions'
  with client.stream('POST', url, json=body) as response:
    for part in response.iter_bytes():
      content += part
      if time.monotonic() > until:
        raise httpx.ReadTimeout(f'not whole after {judge.timeout:g} s')
      if len(content) > BIGGEST:
        break
    return response.status_code, response.headers, bytes(content)


def _give_up(status: int, said: str, judge: Any) -> None:
  """Raises where no request will ever be answered."""
  mend = {
    401: f'the key in {judge.key_env} is not taken',
    402: 'it wants to be paid',
    403: f'the key in {judge.key_env} may not do this',
    404: 'no such address or model: check config.judge.url and .model',
  }
  if 'insufficient_quota' in said:
    mend[status] = 'the account has nothing left'
  if status in mend:
    raise ValueError(
      f'the judge at {judge.url}: {mend[status]} ({said}). What it said so far '
      f'is kept in {judge.cache}'
    )


def _after(head: httpx.Headers) -> float:
  """The seconds that the server asks to wait, if it says so in seconds."""
  with contextlib.suppress(ValueError):
    return float(head.get('retry-after', 0))
  return 0.0


def _json(content: bytes) -> Any:
  try:
    return json.loads(content)
  except (ValueError, RecursionError):
    return None
