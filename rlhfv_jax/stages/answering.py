"""Answering: a model of the run, ready for questions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import jax

from rlhfv_jax import answers
from rlhfv_jax.data import chat
from rlhfv_jax.generate import Decoding
from rlhfv_jax.stages import problem
from rlhfv_jax.stages.problem import Setup


def answerer(
  s: Setup, params: Path, decoding: Decoding, batch: int
) -> Callable:
  """(questions, path=, name=) -> answers of the parameters in a folder."""
  return functools.partial(
    answers.answer, s.model, problem.load(s, params), tokenizer=s.tokenizer,
    template=problem.template(s), image_size=s.config.image.size,
    image_policy=s.config.image.policy, decoding=decoding, batch=batch,
    key=jax.random.key(s.config.seed + 1), mesh=s.mesh,
  )  # fmt: skip


def greedy(s: Setup) -> Decoding:
  return Decoding(
    max_new=s.config.evaluate.max_new,
    **chat.stops(s.tokenizer, problem.template(s))._asdict(),
  )
