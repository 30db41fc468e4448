"""A reward model at work: pictures, questions, answers, facts in; scores out.

It makes rows of its own, with its own tokenizer, template and resolution: the
policy whose answers it scores may be another model altogether.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhfv_jax import files, hosts, models, sharding
from rlhfv_jax.batch import Bucket
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat, images, judgement, plan
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example
from rlhfv_jax.feed import to_batch

Picture = bytes | None
Scorer = Callable[
  [Sequence[Picture], Sequence[str], Sequence[str], Sequence[Sequence[str]]],
  np.ndarray,
]  # images, questions, answers, facts -> f32[n]
Scores = Callable[[Any, Any], jax.Array]  # parameters, batch -> f32[B,C]

STEP = 64  # lengths of rows are rounded up to it: few shapes to compile


def score(
  scorer: Scorer,
  image: Picture,
  question: str,
  answer: str,
  facts: Sequence[str] = (),
) -> float:
  """What one answer is worth."""
  return float(scorer([image], [question], [answer], [facts])[0])


def scorer(
  model: Any,
  params: Any,
  *,
  tokenizer: Any,
  template: chat.Template,
  judgement: judgement.Judgement,
  image_size: int,
  image_policy: str,
  batch: int,
  mesh: Mesh,
) -> Scorer:
  """(images, questions, answers, facts) -> f32[n], `batch` rows at a time.

  An answer that says nothing is judged like any other. A row that cannot be
  judged scores NaN; how many and why is said on stderr.
  """
  sharding.check_batch(batch, mesh)
  step, limit = program(model), model.config.text.max_length

  def run(pictures, questions, answers, facts):
    asked = [
      Example(f'answer {i}', image, (('user', question),), (answer,),
              facts=tuple(told))
      for i, (image, question, answer, told) in enumerate(
        zip(pictures, questions, answers, facts, strict=True)
      )
    ]  # fmt: skip
    rows = encode_all(
      asked, tokenizer, template, image_tokens=model.config.image_tokens,
      image_token=model.config.image_token, check_images=True,
      limit=limit, suffix=judgement, may_be_empty=True,
    )  # fmt: skip
    _tell(rows)
    seen = None
    if model.config.image_tokens:
      seen = images.Pictures(asked, image_size, image_policy)
    found = np.full(len(asked), np.nan, np.float32)
    for index, told in batches(
      step, params, rows, seen, buckets=[bucket(rows, limit)], batch=batch,
      mesh=mesh,
    ):  # fmt: skip
      found[index] = told[:, 0]
    return found

  return run


def load(
  folder: str | Path,
  mesh: Mesh,
  *,
  asks: Mapping[str, Any] | None = None,
  batch: int = 16,
) -> Scorer:
  """The reward model in a folder: of a run, RUN/reward, or of an import.

  A run knows how it asked for a judgement; of an import `asks` has to say it:
  question, reply, known, each, file and facts, as in config.reward.
  """
  folder = Path(folder)
  about = workdir.about(folder)
  asks = _asked(folder) or asks
  if asks is None:
    raise ValueError(
      f'{folder}: nothing says by what words this reward model is asked: give '
      '`asks`, with the path of its prompt as file'
    )
  template = chat.template(about.template)
  words = chat.fit(workdir.load_tokenizer(about.tokenizer), template)
  style = dict(about.model)
  style['image_token'] = chat.image_token_id(words, template)
  model = models.build(style)
  size = model.config.vision.image_size if model.config.vision else 1
  return scorer(
    model, workdir.read(folder, mesh), tokenizer=words, template=template,
    judgement=judgement.of(
      asks, template, facts=asks['facts'], seed=asks.get('seed', 0)
    ),
    image_size=size, image_policy=about.policy, batch=batch, mesh=mesh,
  )  # fmt: skip


def _asked(folder: Path) -> dict[str, Any] | None:
  """How a run asked: config.reward, and what an arm of it changed."""
  for at in folder.absolute().parents[:2]:
    if (at / 'config.json').exists():
      config = files.read_json(at / 'config.json')['config']
      if 'reward' in config:
        arm = folder.name.removeprefix('reward-')
        said = config['reward'] | config['reward']['arms'].get(arm, {})
        known = {'facts': said['facts'], 'seed': config['seed']}
        return said['prompt'] | known
  return None


def program(model: Any) -> Scores:
  """The compiled scores of a model."""
  return jax.jit(lambda params, batch: models.scores(model, params, batch))


def bucket(rows: data_rows.Rows, limit: int) -> Bucket:
  """One shape for rows of one answer, rounded up so that few are compiled."""
  longest = int(data_rows.lengths(rows).sum(axis=1).max(initial=1))
  return Bucket(min(-(-longest // STEP) * STEP, limit), 0, 1)


def batches(
  step: Scores,
  params: Any,
  rows: data_rows.Rows,
  pictures: images.Pictures | None,
  *,
  buckets: Sequence[Bucket],
  batch: int,
  mesh: Mesh,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(row numbers, their scores f32[n,C]) of all rows that can be judged."""
  steps = plan.plan(
    0, 0, data_rows.lengths(rows), buckets=buckets, batch=batch, shuffle=False,
    prompts=data_rows.prompts(rows),
  )  # fmt: skip
  here = hosts.rows(batch, mesh)
  for shape, index in steps:
    own = index[here]
    arrays = data_rows.assemble(rows, own, shape, read=True)
    if pictures is not None:
      arrays['images'] = np.stack([
        pictures[int(i)] if i >= 0 else np.zeros(
          (pictures.size, pictures.size, 3), np.uint8
        )
        for i in own
      ])  # fmt: skip
    found = hosts.whole(step(params, to_batch((shape, arrays), mesh)))
    yield index[index >= 0], np.asarray(found)[index >= 0]


def _tell(rows: data_rows.Rows) -> None:
  """Which answers have no score, and why."""
  if rows.rejected and hosts.leader():
    why = Counter(row.reason for row in rows.rejected)
    reasons = ', '.join(f'{n} {reason}' for reason, n in why.items())
    first = rows.rejected[0]
    print(f'reward: {len(rows.rejected)} of {len(rows)} answers have no score: '
          f'{reasons}; the first is row {first.index}: {first.detail}',
          file=sys.stderr)  # fmt: skip
