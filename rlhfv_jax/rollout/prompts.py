"""Prompts: what the policy is asked, which of them in which rollout.

A prompt's number is its place in the source and finds its picture, its facts
and what a rule knows of it too. One that is too long is left out by number, so
that nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlhfv_jax.batch import Bucket
from rlhfv_jax.data import chat, images, plan
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example


class Prompts(NamedTuple):
  """Questions with their rows; a row that cannot be asked has size 0."""

  source: Sequence[Example]
  rows: data_rows.Rows
  pictures: images.Pictures | None
  bucket: Bucket  # holds every prompt with the longest answer


def read(
  source: Sequence[Example],
  tokenizer: Any,
  template: chat.Template,
  *,
  model: Any,
  image_size: int,
  image_policy: str,
  limit: int,
  max_new: int,
) -> Prompts:
  """Prompts of at most `limit` tokens, the picture among them."""
  rows = encode_all(
    source,
    tokenizer,
    template,
    image_tokens=model.config.image_tokens,
    image_token=model.config.image_token,
    limit=limit,
  )
  longest = int(rows.sizes[:, 0].max(initial=0))
  trunk = -(-(longest + max_new) // 8) * 8
  if trunk > model.config.text.max_length:
    raise ValueError(
      f'prompts of up to {longest} tokens and answers of {max_new} pass '
      f'text.max_length {model.config.text.max_length}: lower '
      'config.ppo.max_prompt or config.ppo.max_new'
    )
  pictures = None
  if model.config.image_tokens:
    pictures = images.Pictures(source, image_size, image_policy)
  return Prompts(source, rows, pictures, Bucket(trunk, 0, 1))


def drawn(prompts: Prompts, number: int, *, size: int, seed: int) -> np.ndarray:
  """i32[size]: the prompts of a rollout; all once before any comes again.

  What an epoch has left over at its end waits for the next, which is shuffled
  anew.
  """
  each = prompts.rows.kept // size
  if not each:
    raise ValueError(
      f'{prompts.rows.kept} prompts are fewer than the {size} of a rollout: '
      'bring more, or lower config.ppo.rollout'
    )
  epoch, place = divmod(number, each)
  batches = plan.plan(
    seed, epoch, data_rows.lengths(prompts.rows), buckets=[prompts.bucket],
    batch=size, prompts=data_rows.prompts(prompts.rows),
  )  # fmt: skip
  return [rows for _, rows in batches if rows.min() >= 0][place]


def answered(
  prompts: Prompts, index: np.ndarray, answers: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
  """Prompts with an answer each, in the bucket; `index` names the prompts."""
  rows = []
  for i, answer in zip(index, answers, strict=True):
    prompt = data_rows.row(prompts.rows, int(i)).prompt
    roles = np.repeat(np.array([0, 1], np.int8), [len(prompt), len(answer)])
    rows.append(data_rows.Row(prompt, (answer,), (roles,), len(answer)))
  ids = [prompts.rows.ids[i] for i in index]
  arrays = data_rows.assemble(
    data_rows.pack(rows, ids), np.arange(len(index)), prompts.bucket
  )
  return arrays | {'index': np.asarray(index, np.int32)}


def shown(prompts: Prompts, index: np.ndarray) -> dict[str, np.ndarray]:
  """The pictures of these prompts, as a batch has them."""
  if prompts.pictures is None:
    return {}
  return {'images': np.stack([prompts.pictures[int(i)] for i in index])}
