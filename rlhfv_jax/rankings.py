"""Answers of the current policy, ranked: pairs for a reward model, or for DPO.

Each picture is asked about twice, and the annotator says which answer is the
better; where it finds none better the picture gives no pair. The pictures are
those that are corrected in the other condition, so equal numbers of pairs are
an equal budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlhfv_jax import feedback, hosts
from rlhfv_jax.data import sources
from rlhfv_jax.data.rows import Example
from rlhfv_jax.feedback import FIRST, Answer
from rlhfv_jax.playroom import annotator, dataset
from rlhfv_jax.playroom.scene import Scene, World, rng_of


def ranking(
  asked: Example, scene: Scene, first: str, second: str
) -> Example | None:
  """The pair (better, worse) with facts; None where neither is better.

  An answer that says nothing loses to any that says something true, and is no
  answer that a model can be trained on: it gives no pair either.
  """
  order = annotator.rank(scene, first, second)
  if order is None or not (first.strip() and second.strip()):
    return None
  said = (first, second) if order == 0 else (second, first)
  told = annotator.facts(scene, rng_of(scene, annotator.FACT_STREAM))
  return replace(asked, answers=said, annotator='playroom', facts=told)


def pairs(
  world: World, split: str, *, seed: int, round_size: int, answer: Answer,
  folder: Path,
) -> Iterator[Example]:  # fmt: skip
  """Rankings without end. The rounds' answers are kept, as of corrections."""
  start = FIRST
  while True:
    scenes = list(
      dataset.scenes(world, split, round_size, seed=seed, start=start)
    )
    asked = feedback.described(world, scenes)
    again = [replace(one, id=f'{one.id}-again') for one in asked]
    number = (start - FIRST) // round_size
    path = folder / f'answers-{split}-{number:03d}.jsonl'
    said = answer([*asked, *again], path=path,
                  name=f'answers {split} {number + 1}')  # fmt: skip
    texts = [row['answer'] for row in said]
    found = [
      ranking(*one)
      for one in zip(
        asked, scenes, texts[:round_size], texts[round_size:], strict=True
      )
    ]
    if not any(found):
      raise ValueError(
        f'{path}: of {round_size} pairs of answers none has a better one: '
        'raise config.rankings.temperature'
      )
    yield from filter(None, found)
    start += round_size


def collect(
  world: World, split: str, n: int, *, seed: int, round_size: int,
  answer: Answer, folder: Path, path: Path,
) -> sources.Source:  # fmt: skip
  """The first n rankings, in a file that is written once they are there."""
  if not hosts.there(path):
    endless = pairs(
      world, split, seed=seed, round_size=round_size, answer=answer,
      folder=folder,
    )  # fmt: skip
    found = [next(endless) for _ in range(n)]
    with hosts.in_turn():
      if hosts.leader():
        sources.write(path, found)
  return sources.read(path)
