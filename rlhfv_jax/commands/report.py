"""report: results of benchmarks compared, or the page of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rlhfv_jax import files
from rlhfv_jax.report import comparison, seeds

_HELP = """\
Compares models on the same questions: differences with their intervals, how
many answers changed each way, what papers report, and a page with the answers
side by side. The others are held against the first.

  python -m rlhfv_jax report A/results.json B/results.json --out=page.html
  python -m rlhfv_jax report A/results.json

The page of a run, or of an evaluation, written again from its files:

  python -m rlhfv_jax report runs/ddpo

Runs that differ in their seed: means over the seeds with 95 % intervals.

  python -m rlhfv_jax report --seeds runs/seed0 runs/seed1 runs/seed2
"""


def main(argv: list[str]) -> None:
  a = _parser().parse_args(argv)
  if a.seeds:
    print(seeds.table(seeds.of_runs(a.results), seeds.OF_RUNS))
  elif len(a.results) == 1 and a.results[0].is_dir():
    _again(a.results[0], a)
  else:
    comparison.tell(a.results, a.out, parts=a.all)


def _again(folder: Path, a: argparse.Namespace) -> None:
  path = folder / 'results.json'
  if not path.exists():
    raise ValueError(
      f'{folder} has no results.json: it is no run, or its evaluation is not '
      'finished; run it again'
    )
  if 'benchmarks' in files.read_json(path):
    comparison.tell([path], a.out or folder / 'report.html', parts=a.all)
    return
  from rlhfv_jax.stages import measure  # who compares need not wait for jax

  measure.retell(folder)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m rlhfv_jax report', description=_HELP,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  add = parser.add_argument
  add('results', nargs='+', type=Path, metavar='RESULTS.json | WORKDIR')
  add('--out', type=Path, metavar='PAGE.html', help='write the page too')
  add('--seeds', action='store_true', help='means over runs of several seeds')
  add('--all', action='store_true', help='print the parts of metrics too')
  return parser
