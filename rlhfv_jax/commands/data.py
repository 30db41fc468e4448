"""data check: is it safe to train on? data convert: one format into another."""

import argparse
import re
import sys
from pathlib import Path

from rlhfv_jax.data import chat, conversion, sources, tokenizer

_CHECK = """\
Writes a page that says what is in the data and what is wrong with it, and a
list of every case beside it. The exit code is 0 where it is safe to train on.

  python -m rlhfv_jax data check --data=rlhfv:DIR
  python -m rlhfv_jax data check --data=trl:DIR --model=llava15_7b \\
    --tokenizer=DIR --buckets='640,128,2 640,384,2' --against=mmhal.json
"""
_CONVERT = """\
Every column, span and picture is kept. Rows that cannot be converted are listed
in OUT.rejected.json and on the terminal.

  python -m rlhfv_jax data convert --from=rlhfv:DIR --to=trl:OUT
"""


def main(argv: list[str]) -> None:
  options = _parser().parse_args(argv)
  options.run(options)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m rlhfv_jax data', description=__doc__,
  )  # fmt: skip
  commands = parser.add_subparsers(metavar='check | convert', required=True)
  how = {'formatter_class': argparse.RawDescriptionHelpFormatter}
  kinds = '\n'.join(f'  {k:18} {what}' for k, what in sources.KINDS.items())
  epilog = f'SPEC is KIND:PATH, with a KIND of\n\n{kinds}'
  _add_check(
    commands.add_parser(
      'check', description=_CHECK, epilog=epilog, help='is it safe?', **how
    )
  )
  _add_convert(
    commands.add_parser(
      'convert', description=_CONVERT, epilog=epilog,
      help='one format into another', **how,
    )
  )  # fmt: skip
  return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--data', required=True, metavar='SPEC', help='what to look at')
  add('--out', default='check.html', type=Path, help='the page; %(default)s')
  add('--tokenizer', metavar='DIR', help='to measure in tokens, not in words')
  add('--model', metavar='NAME', help='a preset, for its template and picture')
  add('--template', metavar='NAME', help='instead of the one of the model')
  add('--image-tokens', type=int, metavar='N', help='a picture takes')
  add('--buckets', type=_buckets, metavar="'T,R,C ...'",
      help='trunk, branch and answers of each static shape')  # fmt: skip
  add('--against', action='append', default=[], metavar='PATH',
      help='pictures kept for evaluation: a file that names them, a folder of '
      'them, a SPEC; may be given several times')  # fmt: skip
  parser.set_defaults(run=check)


def _add_convert(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--from', required=True, dest='source', metavar='SPEC')
  add('--to', required=True, dest='target', metavar='SPEC')
  add('--force', action='store_true', help='replace what is there')
  parser.set_defaults(run=convert)


def check(options: argparse.Namespace) -> None:
  from rlhfv_jax import doctor  # who converts need not wait for its plots

  source, unread = doctor.opened(options.data)
  report = doctor.check(
    source,
    unread=unread,
    out=options.out,
    name=options.data,
    against=options.against,
    buckets=options.buckets,
    **_reader(options),
  )
  print(report.text())
  if not report.safe:
    raise SystemExit(1)


def _reader(options: argparse.Namespace) -> dict:
  """The tokenizer with what it needs to know of the model."""
  from rlhfv_jax.models import VLMConfig, presets  # nor for jax

  preset = presets.preset(options.model) if options.model else {}
  name = options.template or preset.get('template')
  if not options.tokenizer:
    given = {'model': options.model, 'template': options.template,
             'buckets': options.buckets}  # fmt: skip
    if named := [key for key, value in given.items() if value]:
      raise ValueError(f'--{named[0]} counts tokens: give a --tokenizer too')
    return {}
  if not name:
    raise ValueError('--tokenizer goes with a --model or a --template')
  template = chat.template(name)
  found = {
    'tokenizer': tokenizer.fit(tokenizer.load(options.tokenizer), template),
    'template': template,
    'image_tokens': options.image_tokens or 0,
  }
  if preset and options.image_tokens is None:
    found['image_tokens'] = VLMConfig.of(preset['model']).image_tokens
  return found


def _buckets(text: str) -> list[tuple[int, int, int]]:
  """'640,128,2 640,384,2', brackets or not."""
  shapes = [
    re.findall(r'\d+', part) for part in re.split(r'[\s;]+', text) if part
  ]
  if not shapes or any(len(shape) != 3 for shape in shapes):
    raise argparse.ArgumentTypeError(
      f"{text!r}: say 'T,R,C T,R,C', as '640,128,2 640,384,2'"
    )
  return [(int(t), int(r), int(c)) for t, r, c in shapes]


def convert(options: argparse.Namespace) -> None:
  made = conversion.convert(options.source, options.target, force=options.force)
  for row in made.rejected:
    print(f'{row["reason"]}: {row["detail"]}', file=sys.stderr)
  if made.rejected:
    print(f'{len(made.rejected):,} rows not converted: {made.list}',
          file=sys.stderr)  # fmt: skip
  print(f'{made.rows:,} rows in {made.path}')
