"""Experiments of a config's file: arms over seeds, and whether claims hold.

Arms that agree in a stage share what it made: world, eyes, base model and
feedback lie under a name made of what they depend on, and so does every arm. So
tables share arms too, and what is there is not made again.
"""

from __future__ import annotations

import csv
import io
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rlhfv_jax import files, hosts
from rlhfv_jax.report import plots, seeds, trends
from rlhfv_jax.stages import STAGES, align, measure, problem, provenance

# What a stage's output depends on: keys of the config, and what is under them.
_SEEN = ('seed', 'init', 'world', 'model', 'chat', 'image', 'eyes')
_TOLD = (*_SEEN, 'base')
UPSTREAM = {
  'eyes': _SEEN,
  'base': _TOLD,
  'feedback': (*_TOLD, 'feedback', 'evaluate'),
  'rankings': (*_TOLD, 'feedback', 'rankings', 'evaluate'),
  'practice': (*_TOLD, 'practice', 'reward.prompt', 'reward.centring'),
  'reward': (*_TOLD, 'feedback', 'rankings', 'evaluate', 'practice', 'reward'),
}
# What is an arm's own: runs that differ in nothing else share a home.
OWN = ('loss', 'train', 'objective', 'lora', 'data', 'reference', 'ppo')
# What an arm that learns from rankings needs to be a run of its own.
RANKED = ('eyes', 'base', 'feedback', 'rankings', 'reference', 'train',
          'evaluate', 'report')  # fmt: skip
# What PPO begins with, and an arm of it as a run of its own.
JUDGED = ('eyes', 'base', 'rankings', 'practice', 'reward')
REWARDED = (*JUDGED, 'train', 'evaluate', 'report')
# Neither changes what comes out.
SILENT = ('stages', 'workdir', 'name', 'arms')


def digest(config: ConfigDict, keys: Sequence[str]) -> str:
  under = tuple(f'{key}.' for key in keys)
  told = provenance.flat(provenance.plain(config))
  return provenance.digest({
    k: v for k, v in told.items() if k in keys or k.startswith(under)
  })  # fmt: skip


def told(config: ConfigDict, *, without: Sequence[str] = ()) -> list[str]:
  return [k for k in sorted(config) if k not in (*SILENT, *without)]


def of_arm(config: ConfigDict, arm: Mapping, seed: int) -> ConfigDict:
  return problem.overridden(config, {**arm, 'seed': seed})


def untrained(arm: Mapping) -> bool:
  """Whether it is the base model, as it was before it learned from feedback."""
  return arm.get('train', {}).get('steps') == 0


def home(arm: ConfigDict, folder: Path) -> Path:
  """The folder of all arms with this feedback; its stages lie where they are
  shared."""
  place = folder / 'homes' / digest(arm, told(arm, without=OWN))
  for stage, keys in UPSTREAM.items():
    made = folder / 'stages' / f'{stage}-{digest(arm, keys)}'
    made.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    if not (place / stage).is_symlink():
      (place / stage).symlink_to(os.path.relpath(made, place))
  return place


class Bench:
  """Where arms are run: setups by home, steps compiled once for all of them."""

  def __init__(self, config: ConfigDict, folder: Path, mesh):
    self.config, self.folder, self.mesh = config, folder, mesh
    self._setups: dict[Path, problem.Setup] = {}
    self._programs: dict[str, dict] = {}

  def setup(self, arm: ConfigDict) -> problem.Setup:
    """With world, eyes, base and feedback made."""
    place = home(arm, self.folder)
    if place not in self._setups:
      # Data that were read are of no use to another home.
      self._setups.clear()
      shared = problem.overridden(arm, {})
      with shared.unlocked():
        for key in OWN:
          if key in self.config:
            shared[key] = self.config[key]
      made = problem.setup(shared, place, self.mesh)
      model = digest(arm, ('model', 'chat', 'init'))
      programs = self._programs.setdefault(model, {})
      self._setups[place] = made._replace(programs=programs)
    s = self._setups[place]
    for stage in needed(arm):
      STAGES[stage](s)
    return s._replace(config=arm)

  def scores(self, arm: Mapping, seed: int, called: str) -> dict[str, Any]:
    """Trains and measures an arm, or finds that done."""
    config = of_arm(self.config, arm, seed)
    if untrained(arm):
      point = f'base-{digest(config, (*_TOLD, "evaluate"))}'
    else:
      point = f'arm-{digest(config, told(config))}'
    path = self.folder / 'measured' / f'{point}.json'
    if hosts.there(path):
      return files.read_json(path)
    s = self.setup(config)
    params = problem.base(s)
    if not untrained(arm):
      place = self.folder / 'points' / point
      align.align(s, config, place, f'{called}, seed {seed}')
      params = place / 'params'
    place = self.folder / 'asked' / f'seed{seed}'
    found = measure.scores(
      s, {point: params}, split=config.evaluate.split, folder=place
    )[point]
    files.write_json(path, found)
    return found


def needed(arm: ConfigDict) -> tuple[str, ...]:
  """The stages that an arm begins with."""
  if arm.objective == 'ppo':
    return JUDGED
  if arm.data.pairs == 'rankings':
    return ('eyes', 'base', 'rankings')
  return ('eyes', 'base', 'feedback')


def commands(
  experiment: Mapping, *, config: str, folder: Path, runs: Sequence[int],
  through: str,
) -> Iterator[str]:  # fmt: skip
  """A command an arm and seed, each with a folder of its own."""
  for seed in runs:
    for name, arm in experiment['arms'].items():
      if untrained(arm):
        continue  # every run measures its base
      keys, named = provenance.flat({**arm, 'seed': seed}), config
      if arm.get('objective') == 'ppo':
        keys['stages'] = REWARDED
      elif arm.get('data', {}).get('pairs') == 'rankings':
        keys['stages'] = RANKED
      if keys.get('model.vision', '') is None:  # no flag can say that
        named += ',blind'
        del keys['model.vision']
      where = folder / f'{name}-seed{seed}'.replace(' ', '_').replace('/', '-')
      parts = [f'--config={named}', f'--workdir={where}']
      parts += [f'--config.{k}={v}' for k, v in keys.items()]
      yield ' '.join([through, *map(shlex.quote, parts)])


def run(
  every: Mapping[str, Mapping], config: ConfigDict, folder: Path, mesh,
  *, runs: Sequence[int], command: str,
) -> int:  # fmt: skip
  """All experiments; returns how many arms failed.

  Tables are written after each seed: what stands there is what is known so far.
  """
  bench, failed = Bench(config, folder, mesh), []
  found: dict[str, list[dict]] = {name: [] for name in every}
  for seed in runs:
    for name, experiment in every.items():
      for arm, overrides in experiment['arms'].items():
        try:
          scores = bench.scores(overrides, seed, f'{name}: {arm}')
          values = {k: v['value'] for k, v in scores.items()}
          found[name].append({'arm': arm, 'seed': seed} | values)
        except Exception:
          failed.append(f'{name}: {arm}, seed {seed}')
          traceback.print_exc()
      tell(name, experiment, found[name], folder, command)
  for name in every:
    print((folder / f'{name}.md').read_text())
  for one in failed:
    print(f'failed: {one} (run again to retry)', file=sys.stderr)
  return len(failed)


def tell(
  name: str, experiment: Mapping, rows: Sequence[Mapping], folder: Path,
  command: str,
) -> None:  # fmt: skip
  """NAME.csv with every seed, NAME.md with the verdicts, NAME.png if it has
  an axis."""
  metrics = experiment.get('metrics', seeds.METRICS)
  files.write_text(folder / f'{name}.csv', as_csv(rows, metrics))
  files.write_text(
    folder / f'{name}.md', as_text(name, experiment, rows, command)
  )
  if 'along' in experiment and (points := along(rows, experiment['along'])):
    figure = trends.lines(
      points, along=experiment['along'], of='way', metrics=metrics[:2]
    )
    files.write_bytes(folder / f'{name}.png', plots.png(figure))


def as_csv(rows: Sequence[Mapping], metrics: Sequence[str]) -> str:
  out = io.StringIO()
  writer = csv.DictWriter(
    out, ('arm', 'seed', *metrics), extrasaction='ignore', lineterminator='\n'
  )
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def as_text(
  name: str, experiment: Mapping, rows: Sequence[Mapping], command: str
) -> str:
  """The claim, our numbers, what became of the claim, and the paper's."""
  metrics = experiment.get('metrics', seeds.METRICS)
  parts = [f'# {name}', experiment['claim'], f'    {command}']
  parts += [experiment['lacks']] if 'lacks' in experiment else []
  parts.append(seeds.table(rows, metrics))
  parts.append('Means over the seeds with their 95 % intervals.')
  tests = [seeds.verdict(test, rows) for test in experiment['tests']]
  parts.append('\n'.join(seeds.said(test) for test in tests))
  parts.append(_published(experiment['published']))
  return '\n\n'.join(parts) + '\n'


def _published(given: Mapping) -> str:
  """What the paper reports at its size; numbers not to be set beside ours."""
  note = f' ({given["note"]})' if given['note'] else ''
  lines = [f'{given["source"]}: {given["columns"]}{note}.', '']
  if given['rows']:
    wide = max(map(len, given['rows'].values()))
    lines += [f'|{" |" * (wide + 1)}', f'|{" --- |" * (wide + 1)}']
  for model, numbers in given['rows'].items():
    cells = ['-' if n is None else f'{n:g}' for n in numbers]
    lines.append(f'| {" | ".join([model, *cells])} |')
  return '\n'.join(lines).rstrip()


def along(rows: Sequence[Mapping], axis: str) -> list[dict]:
  """The means of arms called WAY/NUMBER; the base is at 0 of an axis of
  pairs."""
  found = []
  names = {name for row in rows for name in row}
  every = seeds.means(rows, [n for n in seeds.METRICS if n in names])
  numbered = [one for one in every if '/' in one['arm']]
  ways = dict.fromkeys(one['arm'].partition('/')[0] for one in numbered)
  for one in numbered:
    way, _, number = one['arm'].partition('/')
    found.append({**one, 'way': way, axis: float(number)})
  if axis == 'pairs':
    base = [one for one in every if one['arm'] == 'base']
    found += [{**one, 'way': way, axis: 0.0} for one in base for way in ways]
  return found
