"""python -m rlhfv_jax COMMAND: everything that is not training."""

import importlib
import sys

COMMANDS = {
  'annotate': 'correct answers in the browser: the edit is the annotation',
  'convert': 'weights of Hugging Face, Muffin and LLaVA in; ours out',
  'data': 'check correction pairs before a chip is rented, or convert them',
  'generate': 'ask a model about a picture, or about a file of them',
  'preflight': 'will it fit on TPUs that are not here, and how fast is it',
  'report': 'compare results of benchmarks, or write the page of a run again',
}


def usage() -> str:
  lines = [f'  {name:10} {what}' for name, what in COMMANDS.items()]
  return '\n'.join(
    ['usage: python -m rlhfv_jax COMMAND [...]', '', *lines, '',
     'COMMAND --help says more; training is python -m rlhfv_jax.main']
  )  # fmt: skip


def main(args: list[str]) -> None:
  if not args or args[0] in ('-h', '--help'):
    print(usage())
    return
  name, *rest = args
  if name not in COMMANDS:
    print(f'error: no command {name!r}\n{usage()}', file=sys.stderr)
    raise SystemExit(2)
  command = importlib.import_module(f'rlhfv_jax.commands.{name}')
  try:
    command.main(rest)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(1) from error


if __name__ == '__main__':
  main(sys.argv[1:])
