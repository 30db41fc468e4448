"""The report of a run: its page in the workdir, its plots beside it.

matplotlib is imported where something is drawn: no run waits for it before its
first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhfv_jax import files
from rlhfv_jax.report import findings, page, rewards
from rlhfv_jax.report.findings import table
from rlhfv_jax.report.gallery import Answer, Pictures

if TYPE_CHECKING:
  from matplotlib.figure import Figure

__all__ = ['draw', 'read', 'table', 'write']


def write(
  workdir: str | Path,
  *,
  pictures: Pictures | None = None,
  wrong: Callable[[Answer], Sequence] | None = None,
) -> Path:
  """Reads a workdir, writes its report.html and plots, returns the page.

  `pictures` gives the PNG of an answer's id, None where there is none; `wrong`
  the spans (start, end, category) of an answer that its judge found
  unsupported, where the answers do not bring `spans` themselves.
  """
  from rlhfv_jax.report import plots, reward_plots
  from rlhfv_jax.report.poster import poster

  workdir = Path(workdir)
  run = read(workdir)
  if wrong:
    run['answers'] = {
      model: [{**row, 'spans': wrong(row)} for row in rows]
      for model, rows in run['answers'].items()
    }
  figures = draw(run['results'], run['metrics'])
  figures |= reward_plots.figures(run.pop('judged'))
  for name, figure in figures.items():
    files.write_bytes(workdir / f'{name}.png', plots.png(figure))
  if pictures and wrong and (figure := poster(run['answers'], pictures)):
    files.write_bytes(workdir / 'poster.png', plots.png(figure))
  svgs = {name: plots.svg(figure, name) for name, figure in figures.items()}
  text = page.render(**run, figures=svgs, pictures=pictures)
  files.write_text(workdir / 'report.html', text)
  return workdir / 'report.html'


def read(workdir: str | Path) -> dict[str, Any]:
  """results, config, metrics by stage, answers and judged pairs by model.

  Each is empty where its file is not there. A stage's metrics.jsonl lies in a
  folder of its name; answers are those of the models before and after.
  """
  workdir = Path(workdir)

  def optional(name: str) -> Mapping[str, Any]:
    path = workdir / name
    return files.read_json(path) if path.exists() else {}

  results = optional('results.json')
  return {
    'results': results,
    'config': optional('config.json'),
    'metrics': {
      path.parent.relative_to(workdir).as_posix(): files.read_lines(path)
      for path in sorted(workdir.rglob('metrics.jsonl'), key=_depth)
    },
    'judged': rewards.read(workdir),
    'answers': {
      model: files.read_lines(workdir / 'answers' / f'{model}.jsonl')
      for model in findings.compared(results)
      if model is not None
    },
  }


def _depth(path: Path) -> tuple[int, Path]:
  return len(path.parts), path


def draw(
  results: Mapping[str, Any], metrics: Mapping[str, Sequence[Mapping]]
) -> dict[str, Figure]:
  """The plots of a run by file name: categories, curves, curves-<stage>."""
  from rlhfv_jax.report import plots

  figures = {}
  if panels := _by_category(findings.rows(results)):
    figures['categories'] = plots.categories(panels)
  for stage, rows in metrics.items():
    if figure := plots.curves(rows):
      figures[page.curves_name(stage)] = figure
  return figures


def _by_category(rows: Iterable[findings.Row]) -> dict[str, dict[str, dict]]:
  """{label: {model: {category: (value, low, high)}}}"""
  panels: dict[str, dict[str, dict]] = {}
  for row in rows:
    if not row.by_category or row.unseen:
      continue
    family, _, category = row.name.partition('/')
    models = panels.setdefault(findings.describe(family).title, {})
    for model, score in row.scores.items():
      if score:
        models.setdefault(model, {})[category] = score[:3]
  return panels
