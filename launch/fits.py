"""What fits where: presets on slices, each compiled once, as a table.

  python -m launch.fits --list                        the command of each cell
  python -m launch.fits --compile='13b v5e'           cells that are missing
  python -m launch.fits --into=docs/scale.md          what is there, into a page

A cell is one `preflight`; its numbers stay in a file of --folder, so that a
table that was stopped goes on. A page keeps its lines about cells that are not
in the folder.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rlhfv_jax import files, meshes

BEGIN, END = '<!-- launch.fits -->', '<!-- -->'
COLUMNS = ('preset', 'chips', 'bucket', 'pairs a chip', 'GiB of a chip',
           '10^9 cycles', 'step takes at least', 'MFU at most')  # fmt: skip
# A picture of 576 tokens with a system line; 64 queries; 256.
LONG, SHORT, MIDDLE = (640, 192, 2), (160, 128, 2), (320, 192, 2)
LEAN = ('--config.train.optimizer=adafactor',)
HALVES = ('--config.train.micro=2',)
INT8 = ('--config.lora.rank=64', '--config.lora.base=int8')


class Cell(NamedTuple):
  """A preset on a slice, with so many pairs on each chip."""

  preset: str
  slice: str
  pairs: int
  bucket: tuple[int, int, int]
  more: tuple[str, ...] = ()

  @property
  def name(self) -> str:
    more = ''.join(f' {m.removeprefix("--config.")}' for m in self.more)
    return f'{self.preset} {self.slice} {self.pairs}{more}'

  @property
  def file(self) -> str:
    return re.sub(r'[^\w.=-]+', '_', self.name) + '.json'

  def command(self) -> list[str]:
    rows = self.pairs * meshes.SLICES[self.slice].chips
    return [
      '-m', 'rlhfv_jax', 'preflight',
      f'--config=configs/ddpo.py:{self.preset},{self.slice}',
      f'--topology={self.slice}', f'--bucket={",".join(map(str, self.bucket))}',
      f'--config.train.batch={rows}', *self.more, '--json',
    ]  # fmt: skip


def _row(preset, bucket, *places):
  return [Cell(preset, slice_, n, bucket, tuple(more))
          for slice_, n, *more in places]  # fmt: skip


CELLS = [
  *_row('llava15_13b', LONG, ('v5e-64', 8), ('v5e-64', 16),
        ('v5e-64', 16, *HALVES), ('v5p-16', 16), ('v4-32', 8),
        ('v5e-16', 2, *LEAN), ('v6e-16', 8)),
  *_row('llava15_7b', LONG, ('v5e-16', 4), ('v5e-64', 16), ('v5p-16', 16),
        ('v4-32', 16), ('v6e-16', 16)),
  Cell('llava15_7b,lora', 'v5e-1', 1, LONG, INT8),
  # The paper's batch is 32 pairs, whatever the chips.
  *_row('rlhfv_13b', SHORT, ('v5e-16', 2), ('v5e-64', 16), ('v5p-16', 4),
        ('v4-32', 2), ('v6e-16', 2)),
  *_row('muffin_13b', SHORT, ('v5e-16', 2), ('v5e-64', 16), ('v5p-16', 4),
        ('v4-32', 2), ('v6e-16', 2)),
  *_row('llava_rlhf_13b', LONG, ('v5e-16', 2, *LEAN), ('v5e-64', 8),
        ('v5p-16', 16), ('v4-32', 8), ('v6e-16', 8)),
  *_row('llava_rlhf_7b', MIDDLE, ('v5e-16', 8), ('v5e-64', 16), ('v5p-16', 16),
        ('v4-32', 16), ('v6e-16', 16)),
]  # fmt: skip


def compiled(cell: Cell, folder: Path) -> dict[str, Any]:
  """What preflight says of a cell; asked once."""
  path = folder / cell.file
  if not path.exists():
    done = subprocess.run(
      [sys.executable, *cell.command()], stdout=subprocess.PIPE, text=True
    )
    if not done.stdout:
      raise SystemExit(f'{cell.name}: preflight said nothing, see above')
    files.write_json(path, json.loads(done.stdout))
  return files.read_json(path)


def place(cell: Cell) -> list[str]:
  """The first columns of its line, which no other has."""
  more = ''.join(f', `{m.removeprefix("--config.")}`' for m in cell.more)
  trunk, branch, answers = cell.bucket
  rows = f'{trunk} + {answers} x {branch}'
  return [cell.preset + more, cell.slice, rows, str(cell.pairs)]


def line(cell: Cell, found: dict[str, Any]) -> str:
  """A row of the table."""
  part, told = found['training'], place(cell)
  memory = f'{part["peak_gib"]:.2f} of {part["limit_gib"]:g}'
  if not part['fits']:
    return _cells([*told, f'{memory}: does not fit', '', '', ''])
  takes = max(part['compute_seconds'], part['transfer_seconds'])
  return _cells([
    *told, memory, f'{part["cycles"] / 1e9:.2f}', f'{takes:.2f} s',
    f'{100 * part["estimated_mfu"]:.0f} %',
  ])  # fmt: skip


def _cells(texts):
  return f'| {" | ".join(texts)} |'


def table(folder: Path, page: str = '') -> str:
  """Markdown of the cells that are there, or in the page; others by name."""
  lines, missing = [], []
  for cell in CELLS:
    before = _cells(place(cell))
    old = [text for text in page.splitlines() if text.startswith(before)]
    if (folder / cell.file).exists():
      lines.append(line(cell, files.read_json(folder / cell.file)))
    elif old:
      lines.append(old[0])
    else:
      missing.append(f'{cell.preset} on {cell.slice}')
  lines = [_cells(COLUMNS), _cells(['---'] * len(COLUMNS)), *lines]
  if missing:
    lines += ['', f'Not compiled yet: {", ".join(missing)}.']
  return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
  a = _parser().parse_args(argv)
  if a.list:
    print(
      '\n'.join(f'{c.name}: python {shlex.join(c.command())}' for c in CELLS)
    )
    return
  for cell in CELLS:
    if a.compile and re.search(a.compile, cell.name):
      print(cell.name, file=sys.stderr, flush=True)
      compiled(cell, a.folder)
  if not a.into:
    print(table(a.folder))
    return
  before, rest = a.into.read_text().split(BEGIN, 1)
  old, after = rest.split(END, 1)
  text = table(a.folder, old)
  files.write_text(a.into, f'{before}{BEGIN}\n\n{text}\n\n{END}{after}')


def _parser():
  parser = argparse.ArgumentParser(
    'python -m launch.fits', description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  add = parser.add_argument
  add('--folder', type=Path, default=Path('runs/fits'), metavar='DIR',
      help='where the numbers are; %(default)s')  # fmt: skip
  add('--compile', metavar='REGEX', help='cells to ask for; none by default')
  add('--list', action='store_true', help='print their commands alone')
  add('--into', type=Path, metavar='FILE', help='a page with the table in it')
  return parser


if __name__ == '__main__':
  main()
