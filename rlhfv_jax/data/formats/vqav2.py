"""VQA v2: its official files, to learn from or to be asked.

task=answers   a question and the answer that most of ten people gave (SFT)
task=rounds    the yes/no questions about a picture, one after the other, as in
               LLaVA-RLHF's SFT+ mixture
task=questions for evaluation: no answer to learn, the ten in extra['answers']
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlhfv_jax import files
from rlhfv_jax.data import lossless, vqa_row
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.storage import beside, folders, grouped, places, records
from rlhfv_jax.data.storage.lazy import Source

TASKS = ('answers', 'rounds', 'questions')
PROMPTS = vqa_row.PROMPTS
NAMES = ('COCO_{subset}_{id:012d}.jpg', '{id:012d}.jpg')


def read(
  path: str | Path,
  *,
  split: str = 'train',
  task: str = 'answers',
  prompt: str | Sequence[str] = 'llava',
  images: str | Path | None = None,
) -> Source:
  """A folder with the official JSON files and the pictures of COCO.

  `prompt` is one of PROMPTS, or templates around {question}; of several, each
  row takes one by its number.
  """
  if task not in TASKS:
    raise ValueError(f'task {task!r}: one of {", ".join(TASKS)}')
  prompts, subset = vqa_row.prompts(prompt), _subset(split)
  path = places.local(path)
  questions = records.read(_file(path, 'questions', split), 'questions')
  images = images or find_coco(path, questions, subset)
  return Source(
    _table(path, split, questions, task),
    functools.partial(
      to_example, task=task, prompts=prompts, images=str(images),
      subset=subset,
    ),
  )  # fmt: skip


def write(
  path: str | Path,
  examples: Iterable[Example],
  *,
  split: str = 'train',
  prompt: str | Sequence[str] = 'llava',
) -> None:
  """The official files in a folder, and the pictures under COCO's names.

  A question stands there without the prompt around it. Where no row has an
  answer the list of annotations is empty.
  """
  path, subset = Path(path), _subset(split)
  taken, answered = set(), 0
  with (
    _list(path, f'OpenEnded_mscoco_{subset}', 'questions') as question,
    _list(path, f'mscoco_{subset}', 'annotations') as annotation,
  ):
    for index, example in enumerate(examples):
      for row in _rows(example, index, split=split, prompt=prompt):
        picture, id = row.pop('image'), row['question_id']
        place = path / subset / picture['path']
        if id in taken or not beside.put(place, picture['bytes']):
          raise RowError(
            'taken', f'row {index} ({example.id}): question {id}, or {place}'
          )
        taken.add(id)
        answer = {k: row.pop(k) for k in vqa_row.ANNOTATION if k in row}
        question(row)
        if answer:
          annotation({k: row[k] for k in ('question_id', 'image_id')} | answer)
          answered += 1
    if not taken or answered not in (0, len(taken)):
      raise ValueError(
        f'{path}: {answered} of {len(taken)} questions have an answer: all of '
        'them need one, or none'
      )


def check(example: Example, index: int, **options) -> None:
  """A RowError where the row could not be written."""
  for _ in _rows(example, index, **options):
    pass


def _rows(
  example: Example,
  index: int,
  *,
  split: str = 'train',
  prompt: str | Sequence[str] = 'llava',
) -> Iterator[lossless.Row]:
  """What is written of an example: a row a question."""
  prompts, subset = vqa_row.prompts(prompt), _subset(split)
  format = vqa_row.format(prompts, subset, learned=bool(example.answers))
  ids = example.extra.get('question_id')
  if not isinstance(ids, list):
    yield lossless.to_row(example, index, format=format)
    return
  said = [text for _, text in (*example.turns, ('', *example.answers))]
  for id, question, answer in zip(ids, said[::2], said[1::2], strict=True):
    one = replace(
      example, id=f'vqav2-{id}', turns=(('user', question),), answers=(answer,),
      extra={'question_id': id},
    )  # fmt: skip
    yield lossless.to_row(one, index, format=format)


@contextlib.contextmanager
def _list(folder: Path, name: str, key: str) -> Iterator[Callable]:
  """Writes one of the official files: what adds a row to its list."""
  with (
    files.atomic(folder / f'v2_{name}_{key}.json') as tmp,
    open(tmp, 'w', encoding='utf-8') as file,
  ):
    subset = name.rpartition('_')[2]
    told = {'data_type': 'mscoco', 'data_subtype': subset}
    file.write(json.dumps(told)[:-1] + f', "{key}": [')
    between = '\n'

    def add(row: dict) -> None:
      nonlocal between
      file.write(between + json.dumps(lossless.jsonable(row)))
      between = ',\n'

    yield add
    file.write('\n]}\n')


def _subset(split: str) -> str:
  """COCO's name for the pictures of a split."""
  year = '2015' if split.startswith('test') else '2014'
  return split.partition('-')[0] + year


def has(path: str | Path, split: str) -> bool:
  """Whether the official questions of a split are there."""
  return any(Path(path).rglob(f'*mscoco_{split}201?_questions.json'))


def _table(path, split, questions: records.Records, task: str):
  """The questions of each row, with what people answered."""
  if task == 'questions' and split.startswith('test'):
    return grouped.Groups(questions, np.arange(len(questions))[:, None])
  answers = records.read(_file(path, 'annotations', split), 'annotations')
  matches = grouped.match(
    grouped.column(questions, 'question_id'),
    grouped.column(answers, 'question_id'),
    f'{questions.path.name} and {answers.path.name}',
  )
  if task == 'rounds':
    closed = grouped.column(answers, 'answer_type')[matches] == b'yes/no'
    members = grouped.by(grouped.column(questions, 'image_id'), closed)
  else:
    members = np.arange(len(questions))[:, None]
  return grouped.Groups(
    questions, members, partners=answers, matches=matches
  )  # fmt: skip


def to_example(
  asked: list[tuple[dict, dict | None]],
  index: int,
  *,
  task: str,
  prompts: tuple[str, ...],
  images: str,
  subset: str,
) -> Example:
  first, told = asked[0]
  name, image = coco_picture(images, first['image_id'], subset)
  if task == 'rounds':
    return _rounds(asked, image, name, prompts)
  row = {**(told or {}), **first, 'image': {'bytes': image, 'path': name}}
  format = vqa_row.format(prompts, subset, learned=task != 'questions')
  return lossless.to_example(row, index, format=format)


def _rounds(
  asked: list[tuple[dict, dict]],
  image: bytes,
  name: str,
  prompts: tuple[str, ...],
) -> Example:
  turns = []
  for question, answer in asked:
    turns.append(('user', vqa_row.asked(question, prompts)))
    turns.append(('assistant', answer['multiple_choice_answer']))
  ids = [question['question_id'] for question, _ in asked]
  return Example(
    id=f'vqav2-{ids[0]}',
    image=image,
    turns=tuple(turns[:-1]),
    answers=(turns[-1][1],),
    image_path=name,
    origin='vqav2',
    extra={'question_id': ids},
  )


def coco_picture(images: str, id: int, subset: str) -> tuple[str, bytes]:
  """A picture of COCO, by the names of 2014 and of 2017."""
  for pattern in NAMES:
    name = pattern.format(subset=subset, id=int(id))
    try:
      return name, folders.picture(images, name)
    except RowError as error:
      missing = error
  raise missing


def _file(path: str | Path, what: str, split: str) -> Path:
  """The official file, by the words in its name."""
  found = sorted(
    p for p in Path(path).rglob('*.json')
    if what in p.name.lower() and split in p.name and 'mscoco' in p.name
  )  # fmt: skip
  exact = [p for p in found if f'{split}20' in p.name] or found
  if len(exact) != 1:
    names = ', '.join(p.name for p in exact) or 'none'
    raise ValueError(
      f'{path}: for split {split!r} one file like v2_..._mscoco_{split}2014_'
      f'{what}.json is needed, here are {names}'
    )
  return exact[0]


def find_coco(root: str | Path, table: records.Records, subset: str) -> str:
  """The folder of COCO's pictures at or below root."""
  ids = [n for n in records.first(table, 'image_id') if isinstance(n, int)]
  names = [p.format(subset=subset, id=n) for n in ids for p in NAMES]
  return str(folders.find(root, names))
