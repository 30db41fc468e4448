"""Questions in, answers out: the generator over a list, kept as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from rlhfv_jax import files, hosts
from rlhfv_jax.data import chat, images
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example
from rlhfv_jax.generate import Decoding, serving


def answer(
  model: Any,
  params: Any,
  questions: Sequence[Example],
  *,
  tokenizer: Any,
  template: chat.Template,
  image_size: int,
  image_policy: str,
  decoding: Decoding,
  batch: int,
  key: jax.Array,
  path: Path,
  name: str,
  mesh: Mesh,
  more: Callable[[Example, serving.Answer], dict] | None = None,
) -> list[dict[str, Any]]:
  """One {'id', 'question', 'answer'} a question, in `path` and returned.

  `more` is what else is kept with an answer.
  `batch` of them are written at a time. The file always holds the first so many
  answers: a run that was stopped goes on behind them and ends in the same.
  """
  rows = encoded(model, questions, tokenizer, template, name)
  pictures = images.Pictures(questions, image_size, image_policy)
  ids = [q.id for q in questions]
  done = _kept(path, ids, whole=batch if decoding.beams > 1 else 1)
  said = serving.stream(
    model,
    params,
    (prompt(rows, pictures, i) for i in range(len(done), len(ids))),
    decoding,
    key,
    slots=batch,
    trunks=serving.ladder(data_rows.lengths(rows)[:, 0]),
    mesh=mesh,
  )
  ready: dict[int, dict[str, Any]] = {}
  for found in _watched(said, name, done=len(done), total=len(ids)):
    question = questions[found.index]
    ready[found.index] = {
      'id': question.id,
      'question': question.turns[-1][1],
      'answer': chat.decode(tokenizer, found.tokens, template),
    } | (more(question, found) if more else {})
    fresh = []
    while (i := len(done) + len(fresh)) in ready:
      fresh.append(ready.pop(i))
    if fresh:
      files.append_lines(path, fresh)
      done += fresh
  hosts.meet()  # before anybody reads what process 0 has written
  return done


def encoded(
  model: Any,
  questions: Sequence[Example],
  tokenizer: Any,
  template: chat.Template,
  name: str,
) -> data_rows.Rows:
  """The questions as rows, if all of them can be asked."""
  rows = encode_all(
    questions,
    tokenizer,
    template,
    image_tokens=model.config.image_tokens,
    image_token=model.config.image_token,
  )
  if rows.rejected:
    first = rows.rejected[0]
    raise ValueError(
      f'{name}: {len(rows.rejected)} questions cannot be asked, the first is '
      f'{first.id}: {first.reason} {first.detail}'
    )
  return rows


def prompt(
  rows: data_rows.Rows, pictures: images.Pictures, index: int
) -> serving.Prompt:
  """Question `index` as the generator takes it."""
  tokens = data_rows.row(rows, index).path(0)
  return serving.Prompt(index, tokens, pictures[index])


def _kept(path: Path, ids: Sequence[str], *, whole: int) -> list[dict]:
  """The answers there already; of beams, which share a batch, whole batches."""
  done = files.read_lines(path)
  done = done[: len(done) // whole * whole] if len(done) < len(ids) else done
  if [row['id'] for row in done] != ids[: len(done)]:
    raise ValueError(f'{path}: answers to other questions: delete it to redo')
  files.write_lines(path, done)
  return done


def _watched(
  said: Iterator[serving.Answer], name: str, *, done: int, total: int
) -> Iterator[serving.Answer]:
  """The same under a progress bar with tokens a second."""
  if done == total:
    return
  bar = tqdm(total=total, initial=done, desc=name, unit='answer',
             dynamic_ncols=True)  # fmt: skip
  begun, tokens = time.perf_counter(), 0
  with bar:
    for found in said:
      tokens += len(found.tokens)
      rate = tokens / (time.perf_counter() - begun)
      bar.set_postfix_str(f'{rate:.0f} tokens/s', refresh=False)
      bar.update()
      yield found
