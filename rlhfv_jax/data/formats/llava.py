"""LLaVA's instruction JSON: conversations, of which every reply is learned.

{id, image, conversations: [{from: human | gpt, value}]}. PPO's prompts come in
it too, with `captions` that are facts, and a caption_type and length_bonus that
its reward reads; those stay in `extra`.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rlhfv_jax.data import export, lossless, messages, pairs
from rlhfv_jax.data import facts as fact_files
from rlhfv_jax.data.example import IMAGE, Example, RowError
from rlhfv_jax.data.messages import SHAREGPT, Turns
from rlhfv_jax.data.storage import beside, folders, places, records
from rlhfv_jax.data.storage.lazy import Source

ROWS, CAPTIONS = 'rows.json', 'image_to_caption.json'
Facts = Callable[[str], tuple[str, ...]]


def read(
  path: str | Path,
  *,
  images: str | Path | None = None,
  facts: str | Path | None = None,
  prompts: bool = False,
) -> Source:
  """A JSON file, or a folder with one; its pictures are looked for beside it.

  With `prompts` the first question of each alone, which PPO asks.
  """
  return open_rows(path, FORMAT, images=images, facts=facts, prompts=prompts)


def write(path: str | Path, examples: Iterable[Example]) -> None:
  """A .json file, or one in a folder, and the pictures beside it."""
  export.records(rows_file(path), examples, FORMAT, column='image')


def parse(row: dict, index: int) -> Example:
  system, turns = messages.read(
    row.get('conversations'), SHAREGPT, 'conversations'
  )
  answers = ()
  if turns and turns[-1][0] == 'assistant':
    turns, answers = turns[:-1], (turns[-1][1],)
  return example(
    row, index, turns, answers, {'system': system} if system else {}
  )


def example(
  row: dict, index: int, turns: Turns, answers: tuple[str, ...], extra: dict
) -> Example:
  picture = messages.picture(row.get('image'))
  return Example(
    id=str(row.get('id', index)),
    image=pairs.embedded(picture or None),
    turns=unmarked(turns) if picture else turns,
    answers=answers,
    image_path=picture.get('path') or '',
    facts=tuple(row.get('captions') or ()),
    extra=extra,
  )


def unmarked(turns: Turns) -> Turns:
  """Without the picture's mark, before or after the question."""
  return tuple(
    (role, pairs.unmarked(text) if role == 'user' else text)
    for role, text in turns
  )


def form(example: Example, index: int) -> dict:
  if len(example.answers) > 1:
    raise RowError(
      'not a demonstration',
      f'{len(example.answers)} answers: write pairs as llava_rlhf',
    )
  turns = (*example.turns, *(('assistant', a) for a in example.answers))
  return row_of(example, index, turns)


def row_of(example: Example, index: int, turns: Turns) -> dict:
  told = messages.write(turns, SHAREGPT)
  row = {'id': example.id}
  if example.image is not None:
    row['image'] = messages.pictures(example)[0]
    told[0]['value'] = f'{IMAGE}\n{told[0]["value"]}'
  return row | {'conversations': messages.with_system(told, example, SHAREGPT)}


FORMAT = lossless.Format(
  'llava', ('id', 'image', 'conversations', 'captions'), parse, form
)


def open_rows(
  path: str | Path,
  format: lossless.Format,
  *,
  images: str | Path | None,
  facts: str | Path | None,
  prompts: bool = False,
) -> Source:
  table = open_records(places.local(path))
  folder = table.path.parent
  if facts is None and (folder / CAPTIONS).exists():
    facts = folder / CAPTIONS
  return Source(
    beside.Beside(table, 'image', images or find_images(table, folder)),
    functools.partial(
      to_example, format=format, facts=facts and fact_files.read(facts),
      prompts=prompts,
    ),
  )  # fmt: skip


def to_example(
  row: dict,
  index: int,
  *,
  format: lossless.Format,
  facts: Facts | None,
  prompts: bool,
) -> Example:
  """The row, with what is known of its picture."""
  example = lossless.to_example(row, index, format=format)
  if facts and not example.facts:
    example = replace(example, facts=facts(fact_key(example)))
  if prompts:
    example = replace(example, turns=example.turns[:1], answers=(), spans=None)
  return example


def fact_key(example: Example) -> str:
  """A multiple-choice question (2 to 5: the right option) has its reasons."""
  name = example.image_path.rpartition('/')[2]
  chosen = example.extra.get('caption_type', 1) in (2, 3, 4, 5)
  return f'aok_{name}' if chosen else name


def open_records(path: str | Path) -> records.Records:
  """The records of a file, or of the only JSON file with some in a folder."""
  path = Path(path)
  if not path.is_dir():
    return records.read(path)
  found = sorted(
    p for p in path.iterdir()
    if p.suffix in beside.RECORDS and p.name != CAPTIONS
  )  # fmt: skip
  if len(found) != 1:
    names = ', '.join(p.name for p in found[:8]) or 'none'
    raise ValueError(f'{path}: one JSON file is read, here are {names}')
  return records.read(found[0])


def find_images(table: records.Records, folder: folders.Folder) -> str:
  """Where the pictures are: in the rows' folder, or in one below."""
  named = records.first(table, 'image')
  named = [name[0] if isinstance(name, list) else name for name in named]
  names = [name for name in named if isinstance(name, str)]
  return str(folders.find(folder, names) if names else folder)


def rows_file(path: str | Path) -> Path:
  path = Path(path)
  return path if path.suffix in beside.RECORDS else path / ROWS
