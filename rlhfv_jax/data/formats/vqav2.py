"""VQA v2: its official files, to learn from or to be asked.

task=answers   a question and the answer that most of ten people gave (SFT)
task=rounds    the yes/no questions about a picture, one after the other, as in
               LLaVA-RLHF's SFT+ mixture
task=questions for evaluation: no answer to learn, the ten in extra['answers']
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlhfv_jax.data import picks
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.storage import folders, grouped, places, records
from rlhfv_jax.data.storage.lazy import Source

TASKS = ('answers', 'rounds', 'questions')
# What the questions stood in when the released models learned them.
PROMPTS = {
  'llava': (
    '{question}\nAnswer the question using a single word or phrase.',
  ),
  'rlhfv': (
    '{question} A short answer to the question is',
    'Given the image, answer the following question with no more than three '
    'words. {question}',
    'Based on the image, respond to this question with a short answer: '
    '{question} Answer:',
    'Use the provided image to answer the question: {question} Provide your '
    'answer as short as possible:',
  ),
}  # fmt: skip
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
  prompts = prompt
  if isinstance(prompt, str):
    prompts = PROMPTS.get(prompt, (prompt,))
  if any('{question}' not in text for text in prompts):
    raise ValueError(
      f'prompt {prompt!r}: one of {", ".join(PROMPTS)}, or text around '
      '{question}'
    )
  path = places.local(path)
  questions = records.read(_file(path, 'questions', split), 'questions')
  subset = split.partition('-')[0]
  subset += '2015' if subset == 'test' else '2014'
  images = images or find_coco(path, questions, subset)
  return Source(
    _table(path, split, questions, task),
    functools.partial(
      to_example, task=task, prompts=tuple(prompts), images=str(images),
      subset=subset,
    ),
  )  # fmt: skip


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
  turns, extra = [], {'question_id': first['question_id']}
  for question, answer in asked:
    text = picks.one_of(prompts, question['question_id'])
    turns.append(('user', text.replace('{question}', question['question'])))
    if task != 'questions':
      turns.append(('assistant', answer['multiple_choice_answer']))
  if task == 'rounds':
    extra = {'question_id': [question['question_id'] for question, _ in asked]}
  elif told:
    extra |= {
      'answers': [one['answer'] for one in told['answers']],
      'question_type': told['question_type'],
      'answer_type': told['answer_type'],
    }
  learned = task != 'questions'
  return Example(
    id=f'vqav2-{first["question_id"]}',
    image=image,
    turns=tuple(turns[:-1] if learned else turns),
    answers=(turns[-1][1],) if learned else (),
    image_path=name,
    origin='vqav2',
    extra=extra,
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
