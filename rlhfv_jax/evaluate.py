"""Answers, then scores, then results.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhfv_jax import files, hosts
from rlhfv_jax.benchmarks import playroom as benchmark
from rlhfv_jax.feedback import question
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.scene import World, from_record

Answer = Callable[..., list[dict[str, str]]]


def records(world: World, split: str, n: int, *, seed: int) -> dict[str, list]:
  """What is asked: descriptions, in rooms never seen so too, and questions."""
  unseen = 'unseen' if split == 'test' else split
  return {
    'describe': dataset.describe_records(world, split, n, seed=seed),
    'unseen': dataset.describe_records(world, unseen, n, seed=seed, start=n),
    'ask': dataset.question_records(world, split, n, seed=seed),
  }


def prepare(
  folder: Path, world: World, split: str, n: int, *, seed: int
) -> dict[str, list]:
  """Writes the questions with their truth; returns them."""
  asked = records(world, split, n, seed=seed)
  for name, rows in asked.items():
    files.write_lines(folder / f'{name}.jsonl', rows)
  hosts.meet()
  return asked


def evaluate(
  name: str, *, asked: dict[str, list], answer: Answer, folder: Path,
  truth: Path,
) -> dict[str, Any]:  # fmt: skip
  """All metrics of one model, each with its interval and n."""
  said = {}
  for task, rows in asked.items():
    questions = [
      question(from_record(row), row['question'], id=row['id']) for row in rows
    ]
    path = folder / (f'{name}.jsonl' if task == 'describe' else
                     f'{name}-{task}.jsonl')  # fmt: skip
    said[task] = answer(questions, path=path, name=f'{name}: {task}')
  return score(said, truth)


def score(said: dict[str, list], truth: Path) -> dict[str, Any]:
  """Metrics by name. What is measured in unseen rooms is named unseen/..."""
  found = {
    task: benchmark.score(said[task], truth / f'{task}.jsonl')['metrics']
    for task in ('describe', 'unseen')
  }
  unseen = {f'unseen/{k}': v for k, v in found['unseen'].items()}
  asked = benchmark.score_questions(said['ask'], truth / 'ask.jsonl')
  return found['describe'] | unseen | asked['metrics']
