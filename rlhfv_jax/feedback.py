"""Answers of the current policy, corrected: the pairs that it learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rlhfv_jax import hosts
from rlhfv_jax.data import sources
from rlhfv_jax.data.rows import Example
from rlhfv_jax.playroom import annotator, captions, careless, dataset
from rlhfv_jax.playroom.language import DESCRIBE
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import Scene, World, rng_of

# Pictures that the base model was not trained on.
FIRST = 1_000_000

Answer = Callable[..., list[dict[str, str]]]


def question(scene: Scene, text: str, *, id: str = '') -> Example:
  """A question about a scene's picture."""
  return Example(id or scene.id, png(draw(scene)), (('user', text),))


def described(world: World, scenes: Sequence[Scene]) -> list[Example]:
  """A request to describe each scene, every phrasing in turn.

  So what is corrected is not tied to one of them.
  """
  return [
    question(scene, captions.asked(scene, DESCRIBE[i % len(DESCRIBE)], world))
    for i, scene in enumerate(scenes)
  ]


def correction(
  asked: Example, scene: Scene, said: str, *, noise: float = 0.0
) -> Example | None:
  """The pair (corrected, said) with its spans; None where nothing is wrong.

  `noise` is how often who corrects believes what is wrong.
  """
  rng = rng_of(scene, careless.STREAM)
  mended = annotator.correct(careless.seen(scene, said, rng, noise), said)
  if mended is None:
    return None
  return Example(
    asked.id,
    asked.image,
    asked.turns,
    (mended.text, said),
    (mended.chosen_spans, mended.rejected_spans),
  )


def pairs(
  world: World, split: str, *, seed: int, round_size: int, answer: Answer,
  folder: Path, noise: float = 0.0,
) -> Iterator[Example]:  # fmt: skip
  """Corrections without end: a round of pictures, answers, and what was wrong.

  The rounds' answers are kept, so a run that was stopped asks no round twice.
  """
  start = FIRST
  while True:
    scenes = list(
      dataset.scenes(world, split, round_size, seed=seed, start=start)
    )
    asked = described(world, scenes)
    number = (start - FIRST) // round_size
    path = folder / f'answers-{split}-{number:03d}.jsonl'
    said = answer(asked, path=path, name=f'answers {split} {number + 1}')
    found = [
      correction(q, scene, a['answer'], noise=noise)
      for q, scene, a in zip(asked, scenes, said, strict=True)
    ]
    found = [pair for pair in found if pair is not None]
    if not found:
      raise ValueError(
        f'{path}: none of {round_size} answers was wrong, so there is nothing '
        'to correct: raise config.feedback.temperature or train the base less'
      )
    yield from found
    start += round_size


def collect(
  world: World, split: str, n: int, *, seed: int, round_size: int,
  answer: Answer, folder: Path, path: Path, noise: float = 0.0,
) -> sources.Source:  # fmt: skip
  """The first n corrections, in a file that is written once they are there."""
  if not hosts.there(path):
    found, endless = [], pairs(
      world, split, seed=seed, round_size=round_size, answer=answer,
      folder=folder, noise=noise,
    )  # fmt: skip
    while len(found) < n:
      found.append(next(endless))
    with hosts.in_turn():
      if hosts.leader():
        sources.write(path, found)
  return sources.read(path)
