"""annotate: answers are corrected in the browser; the edit says the rest."""

import argparse
import functools
import getpass
import itertools
import os
import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from tqdm import tqdm

_ABOUT = """\
Opens a page on which answers are corrected in place. What changed, of which
kind it is and how training weighs it follow from the edit. With nothing, the
answers of the newest run in runs/ or else the playroom's captions.

  python -m rlhfv_jax annotate
  python -m rlhfv_jax annotate --data=answers.jsonl --images=DIR --workdir=W
  python -m rlhfv_jax annotate --mode=rank --data=trl:DIR --workdir=W
  python -m rlhfv_jax annotate --mode=label --data=one.jsonl --data=two.jsonl \\
    --questions=mhumaneval.jsonl --workdir=W
  python -m rlhfv_jax.main --config=configs/ddpo.py --config.data=annotations:W
"""


def main(argv: list[str]) -> None:
  options = _parser().parse_args(argv)
  try:
    import fastapi as fastapi
    import uvicorn as uvicorn
  except ImportError as error:
    raise ValueError(
      f"{error.name} is missing: pip install -e '.[annotate]'"
    ) from error
  serve(options)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m rlhfv_jax annotate', description=_ABOUT,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  add = parser.add_argument
  add(
    '--data',
    action='append',
    default=[],
    metavar='SPEC',
    help='KIND:PATH, '
    'or answers.jsonl as `generate` writes them; may be given again',
  )
  add('--images', metavar='DIR', help='where the pictures of a JSONL are')
  add('--questions', metavar='FILE', help='of a benchmark: the pictures of '
      'answers that have none, by id')  # fmt: skip
  add('--workdir', default='runs/annotate', metavar='W', help='%(default)s')
  add('--mode', choices=('correct', 'rank', 'label'), default='correct',
      help='correct an answer, rank two, or mark what is wrong (MHumanEval); '
      '%(default)s')  # fmt: skip
  add('--double', type=_share, default=0.1, metavar='SHARE', help='of the '
      'items that two people are given; %(default)s')  # fmt: skip
  add('--name', default='', help='who annotates, so that the page need not ask')
  add('--suggest', type=_share, nargs='?', const=1.0, default=0.0,
      metavar='SHARE', help='show what the model doubted (`doubts` in the '
      'data) in all items or in a share; kept with each record')  # fmt: skip
  add('--tokenizer', metavar='DIR', help='to see tokens as training weighs '
      'them; the playroom has its own')  # fmt: skip
  add('--host', default='127.0.0.1', help='%(default)s')
  add('--port', type=int, default=8765, help='%(default)s')
  add('--token', default='', help='that the address must hold; made up where '
      '--host is not this machine')  # fmt: skip
  add('--origin', action='append', default=[], metavar='HOST',
      help='of a proxy in front; .example.org for all below')  # fmt: skip
  return parser


def _share(text: str) -> float:
  share = float(text)
  if not 0 <= share <= 1:
    raise argparse.ArgumentTypeError(f'{text}: a share between 0 and 1')
  return share


def serve(options: argparse.Namespace) -> None:
  import uvicorn

  from rlhfv_jax.annotate import gate, material, queue, server
  from rlhfv_jax.annotate.store import Store

  inside = gate.is_loopback(options.host)
  colab = 'COLAB_RELEASE_TAG' in os.environ
  token = options.token or (
    '' if inside and not colab else secrets.token_urlsafe(16)
  )
  store = Store(options.workdir)
  kept = store.settle(mode=options.mode)
  if kept['mode'] != options.mode:
    raise ValueError(
      f'{options.workdir}: its records are of --mode={kept["mode"]}; another '
      '--workdir for another mode'
    )
  specs = options.data or [material.default()] * (not queue.count(store))
  if specs:
    _fill(store, specs, options)
  if options.suggest and not queue.doubted(store):
    raise ValueError(
      f'--suggest: no row of {options.workdir} has `doubts`: `generate '
      '--doubts=0.5` writes them'
    )
  settings = server.Settings(
    mode=options.mode,
    suggest=options.suggest,
    person=options.name or (_user() if inside and not token else ''),
    token=token,
    origins=(*options.origin, *(['.googleusercontent.com'] * colab)),
    workdir=str(options.workdir),
    tokens=functools.cache(_tokens(options.tokenizer)),
  )
  where = 'localhost' if inside else options.host
  asked = f'/?token={token}' if token else '/'
  url = f'http://{where}:{options.port}{asked}'
  with _listening(options.host, options.port) as listening:
    print(f'{url}\nCtrl+C ends it; everything is in {store.path}', flush=True)
    _show(url)
    config = uvicorn.Config(
      server.build(store, settings), log_level='warning', server_header=False
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=2048)
  except OSError as error:
    raise ValueError(
      f'--host={host} --port={port}: {error.strerror}; name another --port'
    ) from error


def _show(url: str) -> None:
  """In the browser of whoever sits at this machine."""
  screen = {'DISPLAY', 'WAYLAND_DISPLAY'} & os.environ.keys()
  if sys.stdout.isatty() and (screen or sys.platform in ('darwin', 'win32')):
    threading.Timer(0.5, webbrowser.open, [url]).start()


def _fill(store, specs: list[str], options: argparse.Namespace) -> None:
  from rlhfv_jax.annotate import material, queue

  told: list[str] = []
  found = itertools.chain.from_iterable(
    _read(spec, options, told) for spec in specs
  )
  if options.questions:
    found = material.asked(found, options.questions, options.images)
  if options.mode == 'label':
    found = material.shuffled(found)
  new = queue.add(store, found, double=options.double)
  for line in told[:5]:
    print(line, file=sys.stderr)
  named = ', '.join(specs)
  if told:
    print(f'{len(told):,} rows of {named} cannot be shown', file=sys.stderr)
  total = queue.count(store)
  if not total:
    raise ValueError(f'{named}: no row can be annotated')
  print(f'{new:,} new items, {total:,} in all, from {named}')


def _read(spec: str, options: argparse.Namespace, told: list[str]):
  from rlhfv_jax.annotate import material

  source = material.open_source(spec, options.images)
  yield from tqdm(
    material.usable(source, options.mode, told), total=len(source), desc='read',
    unit='answer', dynamic_ncols=True,
  )  # fmt: skip


def _tokens(folder: str | None):
  """text -> (start, end) of its tokens, once somebody asks."""

  def offsets(text: str) -> list[tuple[int, int]]:
    return _tokenizer(folder)(
      text, add_special_tokens=False, return_offsets_mapping=True
    )['offset_mapping']

  return offsets


@functools.cache
def _tokenizer(folder: str | None):
  from rlhfv_jax.data import tokenizer
  from rlhfv_jax.playroom import language

  if folder:
    return tokenizer.load(Path(folder))
  return tokenizer.word_tokenizer(language.vocabulary())


def _user() -> str:
  try:
    return getpass.getuser()
  except (KeyError, OSError):
    return 'me'
