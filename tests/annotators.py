"""A server of the correction tool for tests: in a process, and over HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from http.client import HTTPException
from pathlib import Path

from fastapi.testclient import TestClient

from rlhfv_jax.annotate import server as web
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.data.example import Example

ROOT = Path(__file__).parents[1]
ANSWER = 'A red car and two dogs stand on the left of a tree.'


def example(i: int, answer: str = ANSWER, **told) -> Example:
  return Example(f'row-{i}', None, (('user', f'What is in {i}?'),), (answer,),
                 **told)  # fmt: skip


def client(store: Store, **settings) -> TestClient:
  settings = web.Settings(**{'person': 'ada', **settings})
  return TestClient(web.build(store, settings), 'http://localhost',
                    raise_server_exceptions=False)  # fmt: skip


def save() -> str:
  return uuid.uuid4().hex


def edit(item: int, text: str, version: int, **told) -> dict:
  return {'item': item, 'text': text, 'version': version, 'save': save(),
          **told}  # fmt: skip


def call(port: int, name: str, told: dict, **headers) -> tuple[int, dict]:
  """A real request; the status, and the JSON of the answer."""
  request = urllib.request.Request(
    f'http://127.0.0.1:{port}/api/{name}',
    json.dumps(told).encode(),
    {'content-type': 'application/json', **headers},
  )
  try:
    with urllib.request.urlopen(request, timeout=30) as answer:
      return answer.status, json.load(answer)
  except urllib.error.HTTPError as error:
    return error.code, json.load(error)


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


@contextlib.contextmanager
def server(workdir: Path, *args: str):
  """(process, port) of a real server, which is up; it is killed at the end."""
  port = free_port()
  process = subprocess.Popen(
    [sys.executable, '-m', 'rlhfv_jax', 'annotate', f'--workdir={workdir}',
     f'--port={port}', '--name=ada', *args],
    cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  try:
    for _ in range(600):
      with contextlib.suppress(OSError, HTTPException):
        urllib.request.urlopen(f'http://127.0.0.1:{port}/who', timeout=30)
        break
      assert process.poll() is None, process.stdout.read()
      time.sleep(0.1)
    yield process, port
  finally:
    with contextlib.suppress(ProcessLookupError):
      process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
