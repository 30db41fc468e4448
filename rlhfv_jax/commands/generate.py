"""generate: ask a model about a picture, or about a file of them."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhfv_jax import answers, files, models, process, scoring, sharding
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat, images
from rlhfv_jax.data.rows import Example, lengths
from rlhfv_jax.generate import Decoding, serving
from rlhfv_jax.stages import provenance

_DESCRIPTION = """\
Asks the model in WORKDIR, which `convert import` or a training wrote:

  generate --init=WORKDIR --image=cat.jpg --question='What is on the table?'
  generate --init=WORKDIR --questions=FILE.jsonl --images=DIR --out=OUT.jsonl

A line of FILE has a question (question, text or prompt), a picture in DIR
(image; may be left out) and an id (id or question_id). OUT has a line with id,
question, answer and image for each; a run that was stopped goes on behind the
last, if the same model and settings made what is there. `annotate
--data=OUT.jsonl --images=DIR` is where people correct them.

As RLHF-V evaluates: --beams=3 --repetition-penalty=1.1 --max-new=1024
"""


class Asked(NamedTuple):
  """A model that can be asked."""

  model: models.VLM
  params: Any
  tokenizer: Any
  template: chat.Template
  policy: str
  mesh: jax.sharding.Mesh

  @property
  def size(self) -> int:
    vision = self.model.config.vision
    return vision.image_size if vision is not None else 0


def main(argv: list[str]) -> None:
  a = _parser().parse_args(argv)
  if (a.questions is None) == (a.question is None):
    raise ValueError('give one --question, or a file of --questions')
  if not 0 <= a.doubts <= 1:
    raise ValueError(f'--doubts={a.doubts}: a probability between 0 and 1')
  if a.questions is not None and a.out is None:
    raise ValueError('--questions: --out says where the answers go')
  process.keep_memory()
  questions = [_one(a)] if a.questions is None else read(a.questions, a.images)
  asked = load(a.init, template=a.template, mesh=a.mesh)
  decoding = Decoding(
    max_new=a.max_new,
    temperature=a.temperature,
    top_p=a.top_p,
    top_k=a.top_k,
    beams=a.beams,
    repetition_penalty=a.repetition_penalty,
    **chat.stops(asked.tokenizer, asked.template)._asdict(),
  )
  key = jax.random.key(a.seed)
  if a.questions is None:
    say(asked, questions[0], decoding, key)
  else:
    before = claim(a.out, made_by(asked, decoding, a))
    answers.answer(
      asked.model, asked.params, questions, tokenizer=asked.tokenizer,
      template=asked.template, image_size=asked.size,
      image_policy=asked.policy, decoding=decoding, batch=a.batch, key=key,
      path=a.out, name=a.questions.name, mesh=asked.mesh,
      more=functools.partial(more, asked, least=a.doubts),
    )  # fmt: skip
    there = f', {before:,} of them from before' * bool(before)
    print(f'{len(questions):,} answers in {a.out}{there}')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m rlhfv_jax generate',
    description=_DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('--init', required=True, type=Path, metavar='WORKDIR')
  add('--question', metavar='TEXT')
  add('--image', type=Path, metavar='FILE', help='what the question is about')
  add('--questions', type=Path, metavar='FILE.jsonl')
  add('--images', type=Path, metavar='DIR', default=Path(), help='of the file')
  add('--out', type=Path, metavar='OUT.jsonl')
  add('--template', metavar='NAME',
      help='instead of the one that the model was trained with')  # fmt: skip
  add('--max-new', type=int, default=512, metavar='N', help='tokens at most')
  add(
    '--temperature', type=float, default=0.0, help='0, the default, is greedy'
  )
  add('--top-p', type=float, default=1.0, metavar='P')
  add('--top-k', type=int, default=0, metavar='K')
  add('--beams', type=int, default=1, metavar='N')
  add('--repetition-penalty', type=float, default=1.0, metavar='X')
  add('--doubts', type=float, default=0.0, metavar='P',
      help='keep where the model gave its word less than P, for `annotate '
      '--suggest`')  # fmt: skip
  add('--seed', type=int, default=0)
  add('--batch', type=int, default=16, help='answers written at a time')
  add('--mesh', default='1,-1,1', help='data, fsdp, tensor')
  return parser


def load(
  folder: Path, *, template: str | None = None, mesh: str = '1,-1,1'
) -> Asked:
  """The model in a folder with all that is needed to ask it."""
  about = workdir.about(folder)
  if not about.tokenizer:
    raise ValueError(
      f'{folder} has no tokenizer/: the weights came without, copy the '
      "tokenizer's files there and name them in model.json"
    )
  words = chat.template(template or about.template)
  try:
    places = sharding.make_mesh([int(n) for n in mesh.split(',')])
  except ValueError as error:
    raise ValueError(f'--mesh={mesh}: {error}') from None
  return Asked(
    models.build(about.model),
    workdir.read(folder, places),
    chat.fit(workdir.load_tokenizer(about.tokenizer), words),
    words,
    about.policy,
    places,
  )


def made_by(
  asked: Asked, decoding: Decoding, a: argparse.Namespace
) -> dict[str, Any]:
  """All that makes the answers what they are, but for the questions."""
  how = {k: v for k, v in vars(decoding).items() if k not in chat.Stops._fields}
  return {
    'parameters': scoring.params_digest(asked.params),
    'model': provenance.digest(asked.model.config),
    'tokenizer': provenance.digest(asked.tokenizer.get_vocab()),
    'template': provenance.digest(asked.template),
    'pictures': asked.policy,
    'doubts': a.doubts,
    **how,
    **({'seed': a.seed} if decoding.temperature else {}),
  }


def claim(out: Path, made: Mapping[str, Any]) -> int:
  """How many answers are there; refuses those that something else made."""
  path = out.with_name(f'{out.name}.fingerprint.json')
  before = len(files.read_lines(out))
  if before and not path.exists():
    raise ValueError(
      f'{out} has {before:,} answers and no {path.name} beside it says what '
      'made them: delete it to ask again, or name another --out'
    )
  if before and (differ := scoring.differing(path, made)):
    raise ValueError(
      f'{out} has {before:,} answers that something else made: {differ}. '
      'Delete it to ask again, or name another --out'
    )
  files.write_json(path, made)
  return before


def more(
  asked: Asked, question: Example, said: serving.Answer, *, least: float
) -> dict[str, Any]:
  """The picture's name; where the model doubted, [start, end, probability]."""
  told: dict[str, Any] = {}
  if question.image_path:
    told['image'] = question.image_path
  if not least:
    return told
  texts = [
    chat.decode(asked.tokenizer, said.tokens[:n], asked.template)
    for n in range(len(said.tokens) + 1)
  ]
  told['doubts'] = [
    [len(one) + len(new) - len(new.lstrip()), len(other), round(p, 4)]
    for one, other, p in zip(
      texts, texts[1:], np.exp(said.logps).tolist(), strict=False
    )
    if p < least and (new := other[len(one) :]).strip()
  ]
  return told


def _one(a: argparse.Namespace) -> Example:
  picture = a.image.read_bytes() if a.image else None
  return Example('question', picture, (('user', a.question),))


def read(path: Path, folder: Path) -> list[Example]:
  """The questions in a file of JSON lines."""
  found = []
  for number, row in enumerate(files.read_lines(path), 1):
    known = {
      name: next((row[key] for key in keys if key in row), None)
      for name, keys in (
        ('text', ('question', 'text', 'prompt')),
        ('id', ('id', 'question_id')),
      )
    }
    if known['text'] is None:
      raise ValueError(
        f'{path}, line {number}: no question, text or prompt in '
        f'{json.dumps(row)[:80]}'
      )
    picture = folder / row['image'] if row.get('image') else None
    if picture is not None and not picture.is_file():
      raise ValueError(
        f'{path}, line {number}: no picture {picture}: check --images'
      )
    id = str(number if known['id'] is None else known['id'])
    found.append(
      Example(
        id,
        picture.read_bytes() if picture else None,
        (('user', str(known['text'])),),
        image_path=str(row.get('image') or ''),
      )
    )
  if not found:
    raise ValueError(f'{path}: no questions in it')
  return found


def say(
  asked: Asked, question: Example, decoding: Decoding, key: jax.Array
) -> str:
  """Prints an answer while it is written."""
  questions: Sequence[Example] = [question]
  rows = answers.encoded(
    asked.model, questions, asked.tokenizer, asked.template, 'the question'
  )
  pictures = images.Pictures(questions, asked.size, asked.policy)
  printed = ''

  def show(text: str) -> None:
    nonlocal printed
    if text.startswith(printed):
      print(text[len(printed) :], end='', flush=True)
      printed = text

  def over(index: int, ids: np.ndarray) -> bool:
    text = chat.decode(asked.tokenizer, ids, asked.template)
    show(text[: text.rfind(' ') + 1])  # its last word may not be whole
    return False

  mesh = asked.mesh
  (found,) = serving.stream(
    asked.model, asked.params, [answers.prompt(rows, pictures, 0)], decoding,
    key, slots=mesh.shape['data'] * mesh.shape['fsdp'],
    trunks=serving.ladder(lengths(rows)[:, 0]), mesh=mesh, over=over, steps=4,
  )  # fmt: skip
  text = chat.decode(asked.tokenizer, found.tokens, asked.template)
  show(text)
  print()
  return text
