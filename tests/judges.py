"""A judge to talk to: a real server, which does to each request what it says.

The last line of a request's text names what happens to it, try after try, as
"429 cut ok"; the last goes on for ever.
"""

import contextlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPLY = 'It fits. Rating: 4'


class Server(ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 128

  def __init__(self, *, reply=REPLY, model=None, slow=0.3):
    super().__init__(('127.0.0.1', 0), Handler)
    self.reply, self.model, self.slow = reply, model, slow
    self.tries = Counter()
    self.bodies, self.keys = [], []
    self.at_once = self.most_at_once = 0
    self.lock = threading.Lock()

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_address[1]}/v1'


class Handler(BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def log_message(self, *_):
    pass

  def do_POST(self):
    server = self.server
    with server.lock:
      server.at_once += 1
      server.most_at_once = max(server.most_at_once, server.at_once)
    try:
      self.answer()
    finally:
      with server.lock:
        server.at_once -= 1

  def answer(self):
    server, length = self.server, int(self.headers['content-length'])
    body = json.loads(self.rfile.read(length))
    text = body['messages'][-1]['content']
    with server.lock:
      server.bodies.append(body)
      server.keys.append(self.headers.get('authorization'))
      done = server.tries[text]
      server.tries[text] += 1
    if self.path != '/v1/chat/completions':
      return self.send(404, b'nothing here')
    known = [w for w in text.strip().split('\n')[-1].split() if w in DEEDS]
    self.done = done
    deed = known[min(done, len(known) - 1)] if known else 'ok'
    DEEDS[deed](self, body)

  def send(self, status, content, **headers):
    self.send_response(status)
    self.send_header('content-length', str(len(content)))
    for name, value in headers.items():
      self.send_header(name.replace('_', '-'), value)
    self.end_headers()
    self.wfile.write(content)

  def complete(self, body, *, model=None, ended='stop', **message):
    message = {'role': 'assistant', 'content': self.server.reply} | message
    name = model or self.server.model or body['model']
    choice = {'index': 0, 'message': message, 'finish_reason': ended}
    self.send(200, json.dumps({'model': name, 'choices': [choice]}).encode())

  def cut(self):
    """Half of what was announced."""
    self.send_response(200)
    self.send_header('content-length', '1000')
    self.end_headers()
    self.wfile.write(b'{"model": "gp')
    self.wfile.flush()
    self.connection.close()
    self.close_connection = True

  def drip(self):
    """A byte at a time: no single read ever times out."""
    self.send_response(200)
    self.send_header('content-length', '1000')
    self.end_headers()
    with contextlib.suppress(OSError):
      for _ in range(100):
        self.wfile.write(b' ')
        self.wfile.flush()
        time.sleep(0.02)
    self.close_connection = True

  def slowly(self, body):
    time.sleep(self.server.slow)
    self.complete(body)


QUOTA = b'{"error": {"code": "insufficient_quota"}}'
DEEDS = {
  'ok': lambda h, body: h.complete(body),
  'slow': lambda h, body: h.slowly(body),
  'drip': lambda h, body: h.drip(),
  '429': lambda h, body: h.send(429, b'slow down', retry_after='0.01'),
  '500': lambda h, body: h.send(500, b'oops'),
  '400': lambda h, body: h.send(400, b'context length exceeded'),
  '401': lambda h, body: h.send(401, b'who are you'),
  'quota': lambda h, body: h.send(429, QUOTA),
  'cut': lambda h, body: h.cut(),
  'nonsense': lambda h, body: h.send(200, b'<html>Bad gateway</html>'),
  'zipped': lambda h, body: h.send(200, b'<html>', content_encoding='gzip'),
  'deep': lambda h, body: h.send(200, b'[' * 100_000),
  'choiceless': lambda h, body: h.send(200, b'{"model": "m", "choices": []}'),
  'refuse': lambda h, body: h.complete(body, content=None, refusal='No way'),
  'filter': lambda h, body: h.complete(body, ended='content_filter'),
  'half': lambda h, body: h.complete(body, content='Rating', ended='length'),
  'mood': lambda h, body: h.complete(body, content=f'Rating: {h.done + 1}'),
  'empty': lambda h, body: h.complete(body, content=' \n'),
  'other': lambda h, body: h.complete(body, model='gpt-3.5-turbo'),
  'number': lambda h, body: h.complete(body, content=5),
  'pieces': lambda h, body: h.complete(
    body, content=[None, {'text': None}, {'text': 'Rating: 4'}]
  ),
  'parts': lambda h, body: h.complete(
    body, content=[{'type': 'text', 'text': 'Rating: '}, {'text': '4'}]
  ),
}  # fmt: skip


@contextlib.contextmanager
def serving(**about):
  server = Server(**about)
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
