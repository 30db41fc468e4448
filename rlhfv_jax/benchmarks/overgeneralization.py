"""Over-generalisation: what is usual in a scene, claimed where it is not.

RLHF-V's table 2, whose code was not released. For each scene, the objects that
are most frequent in it: how often they are hallucinated in all answers (Ha), in
answers about that scene (Hs), and the difference. A rate is taken for each
object, over the answers that mention it or over all answers (both are given),
and averaged over objects; an object that nobody mentions is left out.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhfv_jax.benchmarks import asked, coco, objhal, tally
from rlhfv_jax.benchmarks.composed import Composed, measure
from rlhfv_jax.benchmarks.lexicon import Lexicon

SCENES = ('living room', 'kitchen', 'bathroom', 'street')
MOST = 10
# What a rate is over, and how its name ends.
BELOW = {'mentions': '', 'answers': '/answers'}
FEW = 30  # answers, below which a rate says little
# The six that the paper shows of its ten.
PAPER = {
  'living room': ('book', 'person', 'bed', 'chair', 'couch', 'remote'),
  'kitchen': ('bottle', 'bowl', 'cup', 'person', 'chair', 'knife'),
  'bathroom': ('toilet', 'sink', 'bottle', 'toothbrush', 'person', 'cup'),
  'street': ('person', 'car', 'motorcycle', 'traffic light', 'handbag',
             'truck'),
}  # fmt: skip


def in_scene(picture: coco.Picture, scene: str) -> bool:
  """Whether a reference caption names the scene."""
  name = re.compile(rf'\b{re.escape(scene)}s?\b', re.IGNORECASE)
  return any(map(name.search, picture.captions))


def usual(
  pictures: Mapping[str, coco.Picture], *, most: int = MOST
) -> dict[str, tuple[str, ...]]:
  """The most frequent objects of each scene: instances in its pictures."""
  found = {}
  for scene in SCENES:
    counts = Counter(
      name
      for picture in pictures.values()
      if in_scene(picture, scene)
      for name in picture.objects
    )
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    found[scene] = tuple(ranked[:most])
  return found


def questions(path: str | Path) -> list[dict]:
  """Those of Object HalBench: this looks at the same answers again."""
  return objhal.questions(path)


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  truth: str | Path,
  corpus: str | Path | None = None,
  objects: Mapping[str, Sequence[str]] | None = None,
  lexicon: Lexicon | str | Path | None = None,
  repeats: int = 1000,
  seed: int = 0,
  **options: Any,
) -> dict:
  """Ha (`all/SCENE`), Hs (`scene/SCENE`), their difference, and its mean.

  Names that end in `/answers` have all answers below the line. The usual
  objects are `objects`, else counted in `corpus` (COCO's folder), else the six
  that the paper shows. Other options are objhal's.
  """
  words = objhal.load(lexicon, strict=options.get('strict', True))
  scored = objhal.score(
    answers, path, truth=truth, lexicon=words, repeats=1, **options
  )
  rows = scored['answers']
  known = coco.pictures(truth, [row['id'].partition('#')[0] for row in rows])
  shown = [known[row['id'].partition('#')[0]] for row in rows]
  if objects is None:
    objects = usual(coco.pictures(corpus)) if corpus else PAPER
  truths = [coco.truth(picture, words) for picture in shown]
  about = {
    scene: np.array([in_scene(picture, scene) for picture in shown])
    for scene in objects
  }
  kinds = {
    scene: {name: words.classes[name] for name in names}
    for scene, names in objects.items()
  }
  parts = _parts(rows, truths, kinds, about)
  settings = {
    **scored['settings'],
    'objects': {scene: list(names) for scene, names in objects.items()},
  }
  found = measure(parts, composed(settings), repeats=repeats, seed=seed)
  sizes = {
    f'{name}/{scene}{suffix}': int(here.sum())
    for scene, here in about.items()
    for name in ('scene', 'difference')
    for suffix in BELOW.values()
  }
  return tally.result(
    'overgeneralization',
    [row['id'] for row in rows],
    {name: _column(rows, name) for name in ('coverage', 'length')},
    settings=settings,
    behind=parts,
    combined={
      name: {**metric, 'n': sizes.get(name, len(rows))}
      for name, metric in found.items()
    },
    warnings=[
      *scored['warnings'],
      *(
        warning
        for scene, names in objects.items()
        for warning in _warnings(scene, names, parts, int(about[scene].sum()))
      ),
    ],
  )


def composed(settings: Mapping[str, Any]) -> dict[str, Composed]:
  """All rates and differences."""
  of = {
    scene: (*names, 'asked', *(f'{scene}/{x}' for x in (*names, 'asked')))
    for scene, names in settings['objects'].items()
  }
  edges = np.cumsum([0, *(2 * len(parts) for parts in of.values())])
  whole = tuple(itertools.chain(*of.values()))
  metrics = {}
  for below, suffix in BELOW.items():
    for scene, parts in of.items():
      for name in ('all', 'scene', 'difference'):
        rate = Composed(parts, _rate(name, below))
        metrics[f'{name}/{scene}{suffix}'] = rate
    mean = _mean_difference(below, edges)
    metrics[f'difference{suffix}'] = Composed(whole, mean)
  return metrics


def _column(rows: Sequence[Mapping], name: str) -> tuple[tuple, tuple]:
  """What Object HalBench says of how much is told."""
  pairs = [row['counts'].get(name, (0.0, 0.0)) for row in rows]
  return tuple(zip(*pairs, strict=True))


def _parts(
  rows: Sequence[Mapping],
  truths: Sequence[set[str]],
  kinds: Mapping[str, Mapping[str, str]],
  about: Mapping[str, np.ndarray],
) -> tally.Columns:
  """Of each object, wrong and mentioned; of all, whether an answer was asked.

  Then those of each scene's answers. One that is not known is asked nothing.
  """
  told = [{o for _, o in row.get('objects', ())} for row in rows]
  known = np.array(['objects' in row for row in rows], float)
  parts = {'asked': (known, known)}
  for scene, here in about.items():
    for name, kind in kinds[scene].items():
      said = np.array([kind in named for named in told], float)
      there = np.array([kind in truth for truth in truths], float)
      parts[name] = (said * (1 - there), said)
    for name in (*kinds[scene], 'asked'):
      tops, bottoms = parts[name]
      parts[f'{scene}/{name}'] = (tops * here, bottoms * here)
  return parts


def _macro(sums: np.ndarray, below: str) -> np.ndarray:
  """The mean over objects of [draws, wrong and mentioned in turn, asked]."""
  wrong, said, asked = sums[:, :-2:2], sums[:, 1:-2:2], sums[:, -1:]
  under = said if below == 'mentions' else np.broadcast_to(asked, wrong.shape)
  used = under > 0
  rates = np.divide(wrong, under, out=np.zeros_like(wrong), where=used)
  count = used.sum(axis=1)
  mean = rates.sum(axis=1) / np.maximum(count, 1)
  return np.where(count > 0, mean, np.nan)


def _rate(name: str, below: str) -> Callable[[np.ndarray], np.ndarray]:
  def rate(sums: np.ndarray) -> np.ndarray:
    half = sums.shape[1] // 2
    every, scene = sums[:, :half], sums[:, half:]
    if name == 'all':
      return _macro(every, below)
    if name == 'scene':
      return _macro(scene, below)
    return _macro(scene, below) - _macro(every, below)

  return rate


def _mean_difference(
  below: str, edges: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
  """The mean over the scenes that have a difference."""
  difference = _rate('difference', below)

  def mean(sums: np.ndarray) -> np.ndarray:
    parts = np.array(
      [difference(sums[:, a:b]) for a, b in itertools.pairwise(edges)]
    )
    known = ~np.isnan(parts)
    total, count = np.where(known, parts, 0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

  return mean


def _warnings(
  scene: str, names: Sequence[str], parts: tally.Columns, n: int
) -> list[str]:
  silent = [name for name in names if not sum(parts[f'{scene}/{name}'][1])]
  told = [f'{scene}: only {n} answers are about it'] if n < FEW else []
  if silent:
    told.append(
      f'{scene}: {len(silent)} of {len(names)} objects are mentioned in no '
      f'answer about it and left out: {asked.some(silent)}'
    )
  return told
