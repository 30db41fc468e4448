"""A-OKVQA: multiple choice with a reason, as conversations about pictures.

task=choice    a question with its options; the reply gives the reason, then the
               option ("chain of thought"; LLaVA-RLHF's policy and PPO sets)
task=rounds    all questions about a picture, each answered by its option alone
               (LLaVA-RLHF's SFT+ mixture)
task=questions for asking: no answer to learn

Facts are the reasons that three people gave, and `caption_type` in `extra` says
which option is right (2 is A), as LLaVA-RLHF's symbolic reward has it.
"""

import functools
from pathlib import Path

import numpy as np

from rlhfv_jax.data import picks
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.formats import vqav2
from rlhfv_jax.data.storage import grouped, places, records
from rlhfv_jax.data.storage.lazy import Source

TASKS = ('choice', 'rounds', 'questions')
LETTERS = 'ABCDEFGH'
OPTION = '{letter}. {choice}'
REASON = 'Think about what the picture shows, then say which option is correct.'
LETTER = "Answer with the correct option's letter and text."


def read(
  path: str | Path,
  *,
  split: str = 'train',
  task: str = 'choice',
  instruction: str | None = None,
  reply: str | None = None,
  images: str | Path | None = None,
) -> Source:
  """A folder with aokvqa_v1p0_SPLIT.json and COCO's pictures, or that file.

  `instruction` follows the options; `reply` is written around {rationale},
  {letter} and {choice}. That "the correct option is X." or "X." is said is what
  the symbolic reward looks for.
  """
  if task not in TASKS:
    raise ValueError(f'task {task!r}: one of {", ".join(TASKS)}')
  alone = task == 'rounds'
  if instruction is None:
    instruction = LETTER if alone else REASON
  if reply is None:
    reply = OPTION if alone else '{rationale} The correct option is {letter}.'
  table = records.read(_file(places.local(path), split))
  images = images or vqav2.find_coco(table.path.parent, table, 'train2017')
  members = np.arange(len(table))[:, None]
  if alone:
    members = grouped.by(grouped.column(table, 'image_id'))
  return Source(
    grouped.Groups(table, members),
    functools.partial(
      to_example, task=task, instruction=instruction, reply=reply,
      images=str(images),
    ),
  )  # fmt: skip


def to_example(
  asked: list[tuple[dict, None]],
  index: int,
  *,
  task: str,
  instruction: str,
  reply: str,
  images: str,
) -> Example:
  rows = [row for row, _ in asked]
  first = rows[0]
  name, image = vqav2.coco_picture(images, first['image_id'], 'train2017')
  turns = []
  for row in rows:
    turns.append(('user', question(row, instruction)))
    if task != 'questions':
      turns.append(('assistant', answer(row, reply)))
  learned = task != 'questions'
  return Example(
    id=f'aokvqa-{first["question_id"]}',
    image=image,
    turns=tuple(turns[:-1] if learned else turns),
    answers=(turns[-1][1],) if learned else (),
    image_path=name,
    origin='aokvqa',
    facts=tuple(r for row in rows for r in row.get('rationales', ())),
    extra=_extra(rows),
  )


def question(row: dict, instruction: str) -> str:
  choices = row['choices']
  options = [
    OPTION.format(letter=letter, choice=choice)
    for letter, choice in zip(LETTERS, choices, strict=False)
  ]
  return '\n'.join([row['question'], *options, instruction]).strip()


def answer(row: dict, reply: str) -> str:
  right, choices = row.get('correct_choice_idx'), row['choices']
  if not isinstance(right, int) or not 0 <= right < len(choices):
    raise RowError(
      'no correct option',
      f'{right!r} of {len(choices)}: the test split is for task=questions',
    )
  reasons = row.get('rationales') or ['']
  return reply.format(
    rationale=picks.one_of(reasons, row['question_id']).strip(),
    letter=LETTERS[right],
    choice=choices[right],
  ).strip()


def _extra(rows: list[dict]) -> dict:
  """What has no place of its own; for one question, the right option too."""
  kept = ('question_id', 'choices', 'direct_answers', 'correct_choice_idx')
  if len(rows) > 1:
    return {'question_id': [row['question_id'] for row in rows]}
  row = rows[0]
  extra = {key: row[key] for key in kept if key in row}
  if 'correct_choice_idx' in row:
    extra['caption_type'] = 2 + row['correct_choice_idx']
  return extra


def _file(path: str | Path, split: str) -> Path:
  path = Path(path)
  if not path.is_dir():
    return path
  found = sorted(path.rglob(f'aokvqa*{split}.json'))
  if len(found) != 1:
    raise ValueError(
      f'{path}: one file like aokvqa_v1p0_{split}.json is needed, here are '
      f'{", ".join(p.name for p in found) or "none"}'
    )
  return found[0]
