"""What a reward model says of held-out pairs: its scores, how sure it is.

A run leaves judged.jsonl beside each reward model: {id, chosen, rejected,
decided}, the scores of the better and of the worse answer, and whether facts
told them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhfv_jax import files

FILE = 'judged.jsonl'
BINS = np.linspace(0.5, 1, 11)
Rows = Sequence[Mapping[str, Any]]
CAPTIONS = {
  'calibration': 'How often a reward model is right where it says it is so '
  'sure; on the diagonal it knows what it knows. Bars are 95 % intervals.',
  'scores': 'Scores of the better and the worse answers of held-out pairs.',
}


def read(workdir: Path) -> dict[str, list[dict]]:
  """By model, as its folder is called, the pairs that it judged."""
  found = sorted(workdir.rglob(FILE), key=lambda path: len(path.parts))
  return {path.parent.name: files.read_lines(path) for path in found}


def certainty(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
  """f[n], bool[n]: how sure the model is of its order, and if it is right.

  The chance that Bradley-Terry gives to the better-scored answer.
  """
  margin = np.array([row['chosen'] - row['rejected'] for row in rows], float)
  return 1 / (1 + np.exp(-np.abs(margin))), margin > 0


def binned(rows: Rows) -> list[tuple[float, np.ndarray]]:
  """(mean certainty, which were right) of each bin that has pairs."""
  sure, right = certainty(rows)
  place = np.clip(np.digitize(sure, BINS) - 1, 0, len(BINS) - 2)
  return [
    (sure[place == k].mean(), right[place == k]) for k in np.unique(place)
  ]


def calibration_error(rows: Rows) -> float:
  """How far certainty is from accuracy, a mean over pairs (ECE, ten bins)."""
  apart = [len(hit) * abs(sure - hit.mean()) for sure, hit in binned(rows)]
  return float(sum(apart) / max(1, len(rows)))
