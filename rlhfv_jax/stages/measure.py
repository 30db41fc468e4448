"""Measuring: every model on the same held-out pictures, and the page of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfv_jax import evaluate, files, hosts, report
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import from_record
from rlhfv_jax.playroom.truth import unsupported
from rlhfv_jax.stages import problem, provenance, tally
from rlhfv_jax.stages.answering import answerer, greedy
from rlhfv_jax.stages.problem import Setup


def evaluated(s: Setup) -> dict[str, Path]:
  """The parameters that are compared, by name."""
  found = {'base': problem.base(s)}
  if 'train' in s.config.stages:
    found[s.config.name] = s.folder / 'params'
  if 'arms' in s.config.stages:
    found |= {k: s.folder / 'arms' / k / 'params' for k in s.config.arms}
  return found


def scores(
  s: Setup, params: Mapping[str, Path], *, split: str, folder: Path
) -> dict[str, Any]:
  """Greedy answers of every model to the same questions, and their scores."""
  c, truth = s.config.evaluate, folder / 'truth'
  asked = evaluate.prepare(
    truth, problem.world(s), split, c.scenes, seed=s.config.seed
  )
  return {
    name: evaluate.evaluate(
      name, asked=asked, answer=answerer(s, path, greedy(s), c.batch),
      folder=folder / 'answers', truth=truth,
    )
    for name, path in params.items()
  }  # fmt: skip


def measure(s: Setup) -> None:
  """results.json: every model's scores, and how they came about."""
  path, split = s.folder / 'results.json', s.config.evaluate.split
  if not hosts.there(path):
    found = scores(s, evaluated(s), split=split, folder=s.folder)
    made = provenance.of(s.config, greedy(s), s.folder / 'truth')
    left = {'rows': tally.used(s.folder),
            'rows not used': tally.left_out(s.folder)}  # fmt: skip
    files.write_json(path, made | left | {'models': found})


def tell(s: Setup) -> None:
  retell(s.folder)


def retell(folder: Path) -> None:
  """The page and the table of a run, from the files it left."""
  scenes = {
    record['id']: from_record(record)
    for record in files.read_lines(folder / 'truth/describe.jsonl')
  }
  known = {
    'pictures': lambda id: png(draw(scenes[id])),
    'wrong': lambda row: [
      (claim.start, claim.end, claim.category)
      for claim in unsupported(scenes[row['id']], row['answer'])
    ],
  }
  report.write(folder, **(known if scenes else {}))
  print(report.table(files.read_json(folder / 'results.json')))
  print(f'\n{folder / "report.html"}')
