"""What is trained on and what is looked at: by picture, in one reading."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from test_chat import TOKENIZERS
from test_formats_jsonl import png

from rlhfv_jax.data import cache, chat, rows, sources, views
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.stages import given

DEV = 0.2


def share(source, row: int) -> float:
  """The definition: by the picture's digest, else the name, else the place."""
  try:
    example = source[row]
    name, digest = example.id, views.digest(example.image)
  except RowError:
    name, digest = str(row), None
  digest = digest or hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
  return int(digest[:16], 16) / 2**64


@pytest.fixture
def folder(tmp_path):
  """Each picture twice, some without one, one broken, two not readable."""
  made = [
    Example(f'n{i}', png(i % 30) if i % 7 else None, (('user', f'what {i}?'),),
            (f'a red cup {i}.', f'a blue cup {i}.'))
    for i in range(60)
  ]  # fmt: skip
  made[11] = replace(made[11], image=b'no picture')
  made[13] = replace(made[13], answers=('same.', 'same.'))
  sources.module('jsonl').write(tmp_path / 'data', made)
  path = tmp_path / 'data/rows.jsonl'
  path.write_text(path.read_text() + '{"question": "wh\n[]\n')
  return tmp_path


def read(folder) -> tuple[dict, rows.Rows]:
  sides = given.pairs(f'jsonl:{folder}/data', dev=DEV)
  found = cache.encoded(
    folder / 'rows', sides['train'].source, TOKENIZERS['bytes'],
    chat.template('vicuna_v1'), image_tokens=3,
  )  # fmt: skip
  return {name: side.of(found) for name, side in sides.items()}, found


def test_the_sides_are_those_that_reading_each_row_says(folder):
  source = sources.open(f'jsonl:{folder}/data')
  drawn = np.array([share(source, row) for row in range(len(source))])
  sides, _ = read(folder)
  told = {name: part.rows.tolist() for name, (part, _) in sides.items()}
  assert told == {
    'train': np.flatnonzero(drawn >= DEV).tolist(),
    'dev': np.flatnonzero(drawn < DEV).tolist(),
  }
  assert 3 < len(told['dev']) < 30
  pictures = {
    name: {part[i].image for i in range(len(part)) if half.sizes[i, 0]} - {None}
    for name, (part, half) in sides.items()
  }
  assert pictures['train'] and not pictures['train'] & pictures['dev']
  for path in (folder / 'data/images').iterdir():
    if path.stat().st_size > 20:  # the broken one is looked for again
      path.unlink()
  again, _ = read(folder)
  assert {name: part.rows.tolist() for name, (part, _) in again.items()} == told


def test_a_side_has_its_own_rows_and_what_was_wrong_with_them(folder):
  sides, whole = read(folder)
  assert len(whole.rejected) == 4
  listed = []
  for part, half in sides.values():
    assert len(part) == len(half) == len(half.ids)
    for i, number in enumerate(part.rows.tolist()):
      one, other = rows.row(half, i), rows.row(whole, number)
      assert half.ids[i] == whole.ids[number] and one.head == other.head
      np.testing.assert_array_equal(one.path(0), other.path(0))
      np.testing.assert_array_equal(one.roles[0], other.roles[0])
    for row in half.rejected:
      number = int(part.rows[row.index])
      assert (
        whole.rejected[[r.index for r in whole.rejected].index(number)][1:]
        == row[1:]
      )
      listed.append((row.id, part.where(row.index)))
    assert np.shares_memory(half.tokens, whole.tokens)
  path = folder / 'data/rows.jsonl'
  assert sorted(listed) == [
    (name, f'{path}, row {row} (line {row + 1})')
    for name, row in
    (('n11', 11), ('n13', 13), ('row 60', 60), ('row 61', 61))
  ]  # fmt: skip


def test_of_few_rows_one_is_looked_at_and_one_alone_is_too_few(tmp_path):
  for count in (1, 2):
    made = [
      Example(f'{i}', png(i), (('user', 'what?'),), ('a cup.', 'a cap.'))
      for i in range(count)
    ]
    folder = tmp_path / str(count)
    sources.module('jsonl').write(folder / 'data', made)
    if count == 1:
      with pytest.raises(ValueError, match='of 1 rows none is left for train'):
        read(folder)
    else:
      sides, _ = read(folder)
      assert {name: len(part) for name, (part, _) in sides.items()} == {
        'train': 1, 'dev': 1,
      }  # fmt: skip


def test_a_share_is_one():
  with pytest.raises(ValueError, match=r'config.data.dev = 1'):
    given.pairs('jsonl:nowhere', dev=1)
