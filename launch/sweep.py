"""A grid of overrides around one config: one base, one reference, one program.

  python -m launch.sweep --config=configs/ddpo.py [--workdir=DIR]
  python -m launch.sweep --config=configs/ddpo.py --print     a command a point

Points are the config's own sweep(). The best is chosen on the development
pictures. A sweep that was stopped goes on; a point that failed is listed, and
the others are run.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import ConfigDict

from rlhfv_jax import files, options, sharding
from rlhfv_jax.main import CONFIG, WORKDIR, workdir
from rlhfv_jax.report import plots
from rlhfv_jax.stages import STAGES, align, measure, problem, provenance

PRINT = flags.DEFINE_bool('print', False, 'Print the commands; run nothing.')

SHARED = ('eyes', 'base', 'feedback', 'reference')
COLUMNS = ('hallucination', 'coverage', 'mention', 'length', 'vqa')


def name(overrides: Mapping) -> str:
  """A point as a folder name: loss.gamma=5.0,loss.beta=20.0."""
  parts = provenance.flat(overrides).items()
  return ','.join(f'{k}={v}' for k, v in parts)


def command(overrides: Mapping, config: str, folder: Path) -> str:
  """The point as a run of its own, for a queue or a pod."""
  parts = provenance.flat(overrides).items()
  keys = ' '.join(f'--config.{k}={v}' for k, v in parts)
  return (
    f'python -m rlhfv_jax.main --config={config} '
    f'--workdir={folder / name(overrides)} {keys}'
  )


def point(s: problem.Setup, overrides: Mapping, folder: Path) -> dict:
  """Trains and measures one point; its scores on the development pictures."""
  path = folder / 'results.json'
  if not path.exists():
    config = problem.overridden(s.config, overrides)
    align.align(s, config, folder, name(overrides))
    scores = measure.scores(
      s, {'point': folder / 'params'}, split='dev', folder=folder
    )
    files.write_json(path, scores['point'])
  return files.read_json(path)


def rows(points: list[tuple[dict, dict]]) -> list[dict]:
  """A flat row a point: what was set, and what came of it."""
  return [
    provenance.flat(overrides)
    | {
      k: round(found[k]['value'], 4) for k in COLUMNS if k in found
    }
    for overrides, found in points
  ]  # fmt: skip


def table(found: list[dict]) -> tuple[str, str]:
  """The rows as CSV and as markdown."""
  out = io.StringIO()
  writer = csv.DictWriter(out, fieldnames=list(found[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(found)
  lines = [list(found[0]), ['---'] * len(found[0])]
  lines += [[f'{v:g}' if isinstance(v, float) else str(v)
             for v in row.values()] for row in found]  # fmt: skip
  return out.getvalue(), '\n'.join(f'| {" | ".join(r)} |' for r in lines) + '\n'


@contextlib.contextmanager
def compilations(function: str) -> Iterator[list[str]]:
  """Collects one entry for each time XLA compiles a jitted function."""
  found = []

  def listen(event: str, duration: float, **about) -> None:
    compiled = event == '/jax/core/compile/backend_compile_duration'
    if compiled and about.get('fun_name') == f'jit({function})':
      found.append(function)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def run(config: ConfigDict, grid: list[dict], folder: Path, mesh) -> int:
  """All points; returns how many failed."""
  s = problem.setup(config, folder, mesh)
  for stage in SHARED:
    STAGES[stage](s)
  done, failed = [], []
  with compilations('train_step') as compiled:
    for overrides in grid:
      try:
        found = point(s, overrides, folder / 'sweep' / name(overrides))
        done.append((overrides, found))
      except Exception:
        failed.append(name(overrides))
        traceback.print_exc()
  if done:
    found = rows(done)
    as_csv, as_markdown = table(found)
    files.write_text(folder / 'sweep.csv', as_csv)
    files.write_text(folder / 'sweep.md', as_markdown)
    keys = list(provenance.flat(done[0][0]))
    if figure := plots.heatmap(found, keys, COLUMNS[:2]):
      files.write_bytes(folder / 'sweep.png', plots.png(figure))
    print(as_markdown)
    times = 'time' if len(compiled) == 1 else 'times'
    print(f'{len(done)} points in {folder}/sweep.csv; the step was compiled '
          f'{len(compiled)} {times}')  # fmt: skip
  for point_name in failed:
    print(f'failed: {point_name} (run again to retry)', file=sys.stderr)
  return len(failed)


def main(_) -> None:
  logging.set_verbosity(logging.WARNING)
  config = CONFIG.value
  named = str(flags.FLAGS['config'].config_filename)
  grid = options.module(named.partition(':')[0]).sweep()
  folder = workdir(WORKDIR.value, sys.argv)
  if not WORKDIR.value:
    folder = folder.with_name(folder.name + '-sweep')
  if PRINT.value:
    for overrides in grid:
      print(command(overrides, named, folder))
    return
  jax.config.update('jax_compilation_cache_dir', str(folder / '.compiled'))
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    raise SystemExit(min(1, run(config, grid, folder, mesh)))


if __name__ == '__main__':
  options.run(main)
