"""Prompts: what a policy is asked when it learns from a reward."""

from __future__ import annotations

from collections.abc import Iterator

from rlhfv_jax.playroom import annotator, captions
from rlhfv_jax.playroom.language import DESCRIBE
from rlhfv_jax.playroom.picture import SIZE, draw, png
from rlhfv_jax.playroom.questions import ask
from rlhfv_jax.playroom.scene import World, rng_of, sample
from rlhfv_jax.playroom.truth import judge

PROMPT_STREAM, FACT_STREAM = 6, 5
FIRST = 2_000_000  # pictures that nothing else was trained on


def prompts(
  world: World,
  split: str,
  n: int,
  *,
  closed: float,
  seed: int = 0,
  start: int = FIRST,
  size: int = SIZE,
) -> Iterator[dict]:
  """n pictures with a request, of which a share `closed` has a short answer.

  That answer is in `extra`, for a reward that checks it; the facts are true and
  say a part of what is there.
  """
  for index in range(start, start + n):
    scene = sample(world, split, index=index, seed=seed)
    rng = rng_of(scene, PROMPT_STREAM)
    asked, extra = DESCRIBE[rng.integers(len(DESCRIBE))], {}
    if rng.random() < closed:
      (one,) = ask(scene, rng, n=1)
      asked, extra = one.text, {'answer': one.answer, 'form': one.form}
    yield {
      'id': f'{scene.id}-prompt',
      'image': png(draw(scene, size)),
      'turns': [('user', captions.asked(scene, asked, world))],
      'facts': tuple(annotator.facts(scene, rng_of(scene, FACT_STREAM))),
      'origin': 'playroom',
      'extra': extra,
    }


def worth(scene, text: str) -> float:
  """What a description is worth to somebody who knows the scene.

  True claims, less twice the wrong ones, as a share of all there is to say.
  """
  verdicts = [true for _, true in judge(scene, text)]
  wrong = verdicts.count(False)
  return (len(verdicts) - 3 * wrong) / (4 * len(scene.groups))
