"""A grid of overrides around one config: one base, one reference, one program.

  python -m launch.sweep --config=configs/ddpo.py [--workdir=DIR]
  python -m launch.sweep --config=configs/ddpo.py --print     a command a point
  python -m launch.sweep --config=configs/ddpo.py --points=tune
  python -m launch.sweep --config=configs/paper.py:table3 [--seeds=0,1,2]
  python -m launch.sweep --config=configs/paper.py:table3 --print \\
    --through='launch/tpu_vm.sh run --name=NAME --zone=ZONE --'

Points are the config's own sweep(), or another of its functions: a list, or
several by name, each with a best point of its own. The best is chosen on the
development pictures. A sweep that was stopped goes on; a point that failed is
listed, and the others are run. A config's file that has experiments is run by
launch/experiment.py: arms over seeds, with a verdict.
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

from launch import experiment
from rlhfv_jax import files, options, process, sharding
from rlhfv_jax.main import CONFIG, WORKDIR, workdir
from rlhfv_jax.report import plots
from rlhfv_jax.stages import STAGES, align, measure, problem, provenance

PRINT = flags.DEFINE_bool('print', False, 'Print the commands; run nothing.')

POINTS = flags.DEFINE_string(
  'points', 'sweep', "The function of the config's file that lists the points."
)

SEEDS = flags.DEFINE_list('seeds', [], 'Of experiments; its own by default.')

THROUGH = flags.DEFINE_string(
  'through', 'python -m rlhfv_jax.main', 'What printed commands begin with.'
)

SHARED = ('eyes', 'base', 'feedback', 'reference')
COLUMNS = ('hallucination', 'coverage', 'mention', 'length', 'vqa')
# What the best point may cost: shares of the base's, and points of a hundred.
KEEPS = {'coverage': 0.95, 'length': 0.9}
LOSES = {'vqa': 0.01}


def shared(config: ConfigDict) -> tuple[str, ...]:
  """What the points begin with, all of them with the same."""
  if config.objective != 'ppo':
    return SHARED
  return tuple(stage for stage in experiment.JUDGED if stage in config.stages)


def name(overrides: Mapping) -> str:
  """A point as a folder name: loss.gamma=5.0,loss.beta=20.0."""
  parts = provenance.flat(overrides).items()
  return ','.join(f'{k}={v}' for k, v in parts)


def command(overrides: Mapping, config: str, folder: Path) -> str:
  """The point as a run of its own, for a queue or a pod."""
  parts = provenance.flat(overrides).items()
  keys = ' '.join(f'--config.{k}={v}' for k, v in parts)
  return (
    f'{THROUGH.value} --config={config} '
    f'--workdir={folder / name(overrides)} {keys}'
  )


def point(s: problem.Setup, overrides: Mapping, folder: Path) -> dict:
  """Trains and measures one point; its scores on the development pictures."""
  config = problem.overridden(s.config, overrides)
  align.align(s, config, folder, name(overrides))
  return scored(s, folder / 'params', folder)


def scored(s: problem.Setup, params: Path, folder: Path) -> dict:
  """The scores of parameters on the development pictures, kept in a folder."""
  path = folder / 'results.json'
  if not path.exists():
    found = measure.scores(s, {'point': params}, split='dev', folder=folder)
    files.write_json(path, found['point'])
  return files.read_json(path)


def row(overrides: Mapping, found: Mapping) -> dict:
  """A flat row: what was set, and what came of it."""
  came = {k: round(found[k]['value'], 4) for k in COLUMNS if k in found}
  return provenance.flat(overrides) | came


def best(found: list[dict], base: Mapping) -> dict | None:
  """Fewest hallucinating answers among the points that cost little enough."""
  fine = [
    r for r in found
    if all(r[k] >= share * base[k] for k, share in KEEPS.items())
    and all(r[k] >= base[k] - lost for k, lost in LOSES.items())
  ]  # fmt: skip
  return min(fine, key=lambda r: r['hallucination'], default=None)


def table(found: list[dict]) -> tuple[str, str]:
  """The rows as CSV and as markdown; what one does not set is empty."""
  keys = dict.fromkeys(k for r in found for k in r if k not in COLUMNS)
  keys = [*keys, *(k for k in COLUMNS if k in found[0])]
  out = io.StringIO()
  writer = csv.DictWriter(out, fieldnames=keys, lineterminator='\n')
  writer.writeheader()
  writer.writerows(found)
  lines = [keys, ['---'] * len(keys)]
  lines += [[shown(r.get(k, '')) for k in keys] for r in found]
  return out.getvalue(), '\n'.join(f'| {" | ".join(r)} |' for r in lines) + '\n'


def read(folder: Path) -> list[dict]:
  """The rows of a sweep that has run, numbers as numbers."""
  with open(folder / 'sweep.csv', encoding='utf-8', newline='') as f:
    return [
      {k: number(v) for k, v in row.items() if v} for row in csv.DictReader(f)
    ]


def number(text: str) -> float | str:
  try:
    return float(text)
  except ValueError:
    return text


def of_base(folder: Path) -> dict:
  """The base's numbers beside those of a sweep that has run."""
  return row({}, files.read_json(folder / 'sweep/base/results.json'))


def shown(value) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


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


def run(
  config: ConfigDict, grid: Mapping[str, list[dict]], folder: Path, mesh
) -> int:
  """All points; returns how many failed."""
  s = problem.setup(config, folder, mesh)
  for stage in shared(config):
    STAGES[stage](s)
  base = row({}, scored(s, problem.base(s), folder / 'sweep/base'))
  done, failed = {of: [] for of in grid}, []
  with compilations('train_step') as compiled:
    for of, overrides in (
      (of, o) for of, points in grid.items() for o in points
    ):
      try:
        found = point(s, overrides, folder / 'sweep' / name(overrides))
        done[of].append(row(overrides, found))
      except Exception:
        failed.append(name(overrides))
        traceback.print_exc()
  tell(folder, base, done)
  times = 'time' if len(compiled) == 1 else 'times'
  n = sum(map(len, done.values()))
  print(f'{n} points in {folder}/sweep.csv; the step was compiled '
        f'{len(compiled)} {times}')  # fmt: skip
  for point_name in failed:
    print(f'failed: {point_name} (run again to retry)', file=sys.stderr)
  return len(failed)


def tell(folder: Path, base: dict, done: Mapping[str, list[dict]]) -> None:
  """The table of all points, a heat-map of a plane, and the best of each."""
  many = len(done) > 1
  found = [
    ({'of': of} if many else {}) | r for of, rs in done.items() for r in rs
  ]
  if not found:
    return
  as_csv, as_markdown = table(found)
  files.write_text(folder / 'sweep.csv', as_csv)
  keys = [k for k in found[0] if k not in COLUMNS]
  if figure := plots.heatmap(found, keys, COLUMNS[:2]):
    files.write_bytes(folder / 'sweep.png', plots.png(figure))
  lines = [as_markdown, 'On the development pictures; the base: '
           + ', '.join(f'{k} {shown(v)}' for k, v in base.items())]  # fmt: skip
  for of, rs in done.items():
    chosen = best(rs, base)
    told = 'every point costs too much' if chosen is None else ', '.join(
      f'{k} {shown(v)}' for k, v in chosen.items()
    )  # fmt: skip
    lines.append(f'best{" " + of if many else ""}: {told}')
  text = '\n'.join(lines) + '\n'
  files.write_text(folder / 'sweep.md', text)
  print(text)


def points(module, called: str) -> dict[str, list[dict]]:
  """The lists of points that a config's file calls so, by name."""
  if not hasattr(module, called):
    raise ValueError(
      f'--points={called}: {module.__name__} has no function {called}()'
    )
  found = getattr(module, called)()
  return found if isinstance(found, dict) else {'': found}


def experiments(module, named: str, config: ConfigDict) -> int:
  """Those that --config=FILE:NAME,... names: printed, or run."""
  every = module.chosen(named.partition(':')[2] or None)
  runs = [int(seed) for seed in SEEDS.value or module.SEEDS]
  # Tables share what they can, so all of them share a folder.
  path = 'runs/paper-small' if named.endswith('small') else 'runs/paper'
  folder = Path(WORKDIR.value or path)
  if PRINT.value:
    for name, one in every.items():
      lines = experiment.commands(
        one, config=named, folder=folder / name, runs=runs,
        through=THROUGH.value,
      )  # fmt: skip
      print('\n'.join(lines))
    return 0
  process.keep_programs(folder)
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    failed = experiment.run(
      every, config, folder, mesh, runs=runs,
      command=f'python -m launch.sweep --config={named}',
    )  # fmt: skip
  return min(1, failed)


def main(_) -> None:
  logging.set_verbosity(logging.WARNING)
  config = CONFIG.value
  named = str(flags.FLAGS['config'].config_filename)
  module = options.module(named.partition(':')[0])
  if hasattr(module, 'experiments'):
    raise SystemExit(experiments(module, named, config))
  grid = points(module, POINTS.value)
  folder = workdir(WORKDIR.value, sys.argv)
  if not WORKDIR.value:
    folder = folder.with_name(f'{folder.name}-{POINTS.value}')
  if PRINT.value:
    for overrides in (o for some in grid.values() for o in some):
      print(command(overrides, named, folder))
    return
  process.keep_programs(folder)
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    raise SystemExit(min(1, run(config, grid, folder, mesh)))


if __name__ == '__main__':
  options.run(main)
