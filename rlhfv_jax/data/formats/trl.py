"""TRL: images, prompt, chosen, rejected; parquet, or JSONL with pictures.

As messages whose content is parts (TRL's way where there are pictures), as
messages of plain text, or as plain text. The prompt may stand in `chosen` and
`rejected` instead. A demonstration has a `completion`.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.messages import OPENAI
from rlhfv_jax.data.storage import beside, columns
from rlhfv_jax.data.storage.lazy import Source

FORMS = ('parts', 'messages', 'plain')
ANSWERS = ('chosen', 'rejected', 'completion')
_KEY = f'{lossless.OWN}trl.form'
_ALONE = f'{lossless.OWN}trl.image'  # `image` instead of `images`


def read(path: str | Path, *, images: str | Path | None = None) -> Source:
  """`images` is the folder of the pictures that a JSON file names."""
  table = beside.read(path, (), 'data of TRL', images=images)
  if table.columns and not {*ANSWERS, 'prompt'} & set(table.columns):
    raise ValueError(
      f'{path}: no column prompt, chosen, rejected among '
      f'{", ".join(table.columns)}: this is not data of TRL'
    )
  if isinstance(table, beside.Beside) and 'images' not in table.columns:
    table = beside.Beside(table.table, 'image', table.folder)
  return Source(table, functools.partial(lossless.to_example, format=FORMAT))


def write(
  path: str | Path, examples: Iterable[Example], *, form: str | None = None
) -> None:
  """A `.jsonl` with pictures beside it, a `.parquet` file or a folder of them.

  A row is written in the form it was read in, other rows in parts; or all in
  `form`.
  """
  format = FORMAT
  if form is not None:
    if form not in FORMS:
      raise ValueError(f'form {form!r}: one of {", ".join(FORMS)}')
    # By another name, so that no row remembers how it was written.
    made = functools.partial(to_form, way=form)
    format = replace(FORMAT, kind=f'trl.{form}', form=made)
  if Path(path).suffix in beside.RECORDS:
    export.records(path, examples, format)
  else:
    export.parquet(path, examples, format)


def parse(row: dict, index: int) -> Example:
  said = {name: row[name] for name in ANSWERS if row.get(name) is not None}
  if 'chosen' in said or 'rejected' in said:
    said = {name: pairs.entry(row, name, 'the row') for name in ANSWERS[:2]}
  prompt = row.get('prompt')
  if prompt is None and len(said) == 2:
    prompt, said = _implicit(said)
  alone = row.get('images') is None and row.get('image') is not None
  picture = messages.picture(row['image'] if alone else row.get('images'))
  form, extra = _form(prompt, said), {_ALONE: True} if alone else {}
  if form == 'plain':
    turns, answers = (('user', prompt),), tuple(said.values())
  else:
    system, turns = messages.read(prompt, OPENAI, 'prompt')
    answers = tuple(_answer(text, name) for name, text in said.items())
    extra |= {'system': system} if system else {}
  return Example(
    id=str(index),
    image=pairs.embedded(picture or None),
    turns=messages.unmarked(turns, bool(picture)),
    answers=answers,
    image_path=picture.get('path') or '',
    extra=extra | ({} if form == FORMS[0] else {_KEY: form}),
  )


def _form(prompt, said: dict) -> str:
  if isinstance(prompt, str):
    return 'plain'
  for told in (prompt, *said.values()):
    for message in told or ():
      if isinstance(message, dict) and isinstance(message.get('content'), str):
        return 'messages'
  return 'parts'


def _answer(told: object, name: str) -> str:
  if isinstance(told, str):
    return told
  _, turns = messages.read(told, OPENAI, name)
  if [role for role, _ in turns] != ['assistant']:
    raise RowError('malformed turn', f'{name} is not one reply')
  return turns[0][1]


def _implicit(said: dict) -> tuple[list, dict]:
  """The messages that both sides begin with are the prompt."""
  chosen, rejected = said.values()
  lists = isinstance(chosen, list) and isinstance(rejected, list)
  if not lists or not chosen or chosen[:-1] != rejected[:-1]:
    raise RowError(
      'no prompt', 'and chosen and rejected do not begin with the same messages'
    )
  return chosen[:-1], {'chosen': chosen[-1:], 'rejected': rejected[-1:]}


def to_form(example: Example, index: int, way: str = '') -> dict:
  names = {0: (), 1: ANSWERS[2:], 2: ANSWERS[:2]}.get(len(example.answers))
  if names is None:
    raise RowError('not a pair', f'{len(example.answers)} answers')
  said = dict(zip(names, example.answers, strict=True))
  way = way or example.extra.get(_KEY, FORMS[0])
  row = {'images': messages.pictures(example)}
  if example.extra.get(_ALONE) and example.image is not None:
    row = {'image': row['images'][0]}
  if way == 'plain':
    return {**row, 'prompt': pairs.question(example), **said}
  prompt = messages.write(example.turns, OPENAI)
  prompt = messages.with_system(prompt, example, OPENAI)
  told = {'prompt': prompt} | {
    name: messages.write([('assistant', text)], OPENAI)
    for name, text in said.items()
  }
  if way == 'parts':
    told = {name: list(map(_in_parts, value)) for name, value in told.items()}
    _put_picture(told['prompt'], example)
  return {**row, **told}


def _in_parts(message: dict) -> dict:
  text = pairs.unmarked(message['content'])
  return {**message, 'content': [{'type': 'text', 'text': text}]}


def _put_picture(prompt: list[dict], example: Example) -> None:
  """Before the first thing that the user says.

  A line that ends behind a picture is read as the picture's own.
  """
  first = next((m for m in prompt if m['role'] == 'user'), None)
  if first and example.image is not None:
    (said,) = first['content']
    own = '\n' if said['text'].startswith('\n') else ''
    first['content'] = [{'type': 'image'}, {**said, 'text': own + said['text']}]


_PART = pa.struct([('type', pa.string()), ('text', pa.string())])
_MESSAGES = pa.list_(
  pa.struct([('role', pa.string()), ('content', pa.list_(_PART))])
)
FORMAT = lossless.Format(
  'trl',
  ('images', 'image', 'prompt', *ANSWERS),
  parse,
  to_form,
  {
    'image': columns.IMAGE,
    'images': pa.list_(columns.IMAGE),
    **dict.fromkeys(('prompt', *ANSWERS), _MESSAGES),
  },
)
