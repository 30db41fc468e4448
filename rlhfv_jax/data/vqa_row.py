"""A question of VQA v2 with its annotation, as an example and back."""

import collections
import functools
import hashlib
import re
from collections.abc import Sequence

from rlhfv_jax.data import pairs, picks
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.lossless import Format, Row

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
QUESTION = ('question_id', 'image_id', 'question')
ANNOTATION = (
  'question_type', 'answer_type', 'answers', 'multiple_choice_answer',
)  # fmt: skip
_COCO = re.compile(r'(?:COCO_\w+_)?(\d{12,})\.jpg')


def prompts(prompt: str | Sequence[str]) -> tuple[str, ...]:
  """Templates around {question}, by the name of some or as they are."""
  found = prompt
  if isinstance(prompt, str):
    found = PROMPTS.get(prompt, (prompt,))
  if any('{question}' not in text for text in found):
    raise ValueError(
      f'prompt {prompt!r}: one of {", ".join(PROMPTS)}, or text around '
      '{question}'
    )
  return tuple(found)


def format(
  prompts: tuple[str, ...], subset: str, *, learned: bool = True
) -> Format:
  """`learned`: the answer that most people gave is one to learn."""
  return Format(
    'vqav2',
    (*QUESTION, *ANNOTATION, 'image'),
    functools.partial(_parse, prompts=prompts, learned=learned),
    functools.partial(_form, prompts=prompts, subset=subset),
  )


def asked(question: dict, prompts: tuple[str, ...]) -> str:
  """The question in one of the prompts, by lot."""
  text = picks.one_of(prompts, question['question_id'])
  return text.replace('{question}', question['question'])


def _parse(
  row: Row, index: int, *, prompts: tuple[str, ...], learned: bool
) -> Example:
  extra = {'question_id': row['question_id']}
  if 'answers' in row:
    extra |= {
      'answers': [one['answer'] for one in row['answers']],
      'question_type': row['question_type'],
      'answer_type': row['answer_type'],
    }
  return Example(
    id=f'vqav2-{row["question_id"]}',
    image=row['image']['bytes'],
    turns=(('user', asked(row, prompts)),),
    answers=(row['multiple_choice_answer'],) if learned else (),
    image_path=row['image']['path'],
    origin='vqav2',
    extra=extra,
  )


def _form(
  example: Example, index: int, *, prompts: tuple[str, ...], subset: str
) -> Row:
  if len(example.answers) > 1:
    raise RowError(
      'not one answer', f'{len(example.answers)}: the format has one'
    )
  id = example.extra.get('question_id', pairs.number(example.id, index))
  picture, name = pairs.picture(example), example.image_path.split('/')[-1]
  if not _COCO.fullmatch(name):  # a number that only its content decides
    key = hashlib.blake2b(picture, digest_size=6).digest()
    name = f'COCO_{subset}_{int.from_bytes(key, "big"):012d}.jpg'
  row = {
    'question_id': id,
    'image_id': int(_COCO.fullmatch(name)[1]),
    'question': _unasked(pairs.question(example), id, prompts),
    'image': {'bytes': picture, 'path': name},
  }
  said = example.extra.get('answers') or list(example.answers)
  if not said:
    return row
  most = collections.Counter(said).most_common(1)[0][0]
  answer = (*example.answers, most)[0]
  return row | {
    'question_type': example.extra.get('question_type', ''),
    'answer_type': example.extra.get('answer_type') or _kind(answer),
    'answers': [
      {'answer': one, 'answer_confidence': 'yes', 'answer_id': n}
      for n, one in enumerate(said, 1)
    ],
    'multiple_choice_answer': answer,
  }


def _unasked(text: str, id: int, prompts: tuple[str, ...]) -> str:
  """The question without the prompt that a reader puts around it."""
  template = picks.one_of(prompts, id)
  before, after = template.split('{question}', 1)
  inside = text[len(before) : len(text) - len(after)]
  if template.replace('{question}', inside) != text:
    raise RowError(
      'another prompt',
      f'{text[:60]!r} is not {template!r}: name its prompt, as in '
      '?prompt={question}, to write it and to read it',
    )
  return inside


def _kind(answer: str) -> str:
  if answer.lower() in ('yes', 'no'):
    return 'yes/no'
  return 'number' if answer.isdecimal() else 'other'
