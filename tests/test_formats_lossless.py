"""Every format there and back: rows as they were, examples as they were."""

import io
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import lossless, sources
from rlhfv_jax.data.example import Example, RowError

PAIRS = ('rlhfv', 'rlaifv', 'trl', 'llamafactory', 'swift', 'muffin_tsv')
LONE = ('trl', 'swift', 'muffin_tsv', 'unimm')
CHATS = ('trl', 'llamafactory', 'swift')
TARGETS = (
  'examples:x', 'examples:x.parquet', 'rlhfv:x', 'rlhfv:x.parquet', 'rlaifv:x',
  'trl:x', 'trl:x.parquet', 'trl:x.jsonl', 'llamafactory:x',
  'llamafactory:x.json', 'llamafactory:x.parquet', 'swift:x', 'swift:x.jsonl',
  'swift:x.parquet', 'muffin_tsv:x', 'jsonl:x',
)  # fmt: skip
OF_COLUMNS = (
  'rlhfv:x', 'rlhfv:x.parquet', 'rlaifv:x', 'trl:x', 'trl:x.parquet',
  'llamafactory:x.parquet', 'swift:x.parquet',
)  # fmt: skip


def png(i: int) -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (4, 4), (i, 0, 0)).save(file, 'PNG')
  return file.getvalue()


def pair(i: int) -> Example:
  """Everything that is known of a correction, in every other row."""
  chosen = f'A red cup stands at the left, {i} of them. Über 日本.'
  rejected = f'A blue cup stands at the left, {i} of them.\n\tOr so.'
  known = {
    'spans': (((2, 5, 'attribute'), (8, 8, None)), ((2, 6, 'attribute'),)),
    'image_path': f'some/{i}.png',
    'origin': 'COCO',
    'annotator': 'ann',
    'model': 'a model',
    'facts': ('There is a cup.', 'It is red.'),
    'extra': {
      'score': i + 0.5, 'tags': ['a', 'b'], 'raw': {'base64': 'AAEC'},
      'question': 'a name that others use', 'mixed': [1, 'one'],
    },
  }  # fmt: skip
  asked = (('user', f'What is in picture {i}?'),)
  example = Example(f'row-{i}', png(i), asked, (chosen, rejected))
  return replace(example, **known) if i % 2 else example


def there_and_back(spec: str, tmp_path, examples):
  kind, name = spec.split(':')
  place = tmp_path / kind / name
  sources.module(kind).write(place, examples)
  return sources.open(f'{kind}:{place}')


def same(found: Example, expected: Example) -> bool:
  """But for the name that a picture got which had none."""
  if not expected.image_path:
    found = replace(found, image_path='')
  return found == expected


@pytest.mark.parametrize('spec', TARGETS)
def test_all_that_is_known_of_a_pair_comes_back(spec, tmp_path):
  rows = [pair(i) for i in range(7)]
  source = there_and_back(spec, tmp_path, rows)
  assert len(source) == 7
  if spec in OF_COLUMNS:
    # Every row has every column, and none holds a number and a word.
    odd, none = {'mixed': '[1, "one"]'}, dict.fromkeys(rows[1].extra)
    rows = [
      replace(e, extra={**e.extra, **odd} if e.extra else none) for e in rows
    ]
  for found, expected in zip(source, rows, strict=True):
    assert same(found, expected), (found, expected)


@pytest.mark.parametrize('kind', LONE)
def test_a_conversation_to_learn_comes_back(kind, tmp_path):
  turns = (('user', 'Hello?'), ('assistant', 'Yes.'), ('user', 'What is it?'))
  rows = [
    replace(pair(i), turns=turns, answers=('A cup.',), spans=None, extra={})
    for i in range(3)
  ]
  found = list(there_and_back(f'{kind}:x', tmp_path, rows))
  assert all(map(same, found, rows)), found


@pytest.mark.parametrize('kind', CHATS)
def test_turns_before_a_pair_come_back(kind, tmp_path):
  turns = (('user', 'Hello?'), ('assistant', 'Yes.'), ('user', 'What is it?'))
  rows = [replace(pair(i), turns=turns, extra={'system': 'Be kind.'})
          for i in range(3)]  # fmt: skip
  found = list(there_and_back(f'{kind}:x', tmp_path, rows))
  assert all(map(same, found, rows)), found


@pytest.mark.parametrize('kind', CHATS)
def test_a_pair_without_a_picture_comes_back(kind, tmp_path):
  rows = [replace(pair(i), image=None, image_path='', extra={}) for i in (0, 1)]
  assert list(there_and_back(f'{kind}:x', tmp_path, rows)) == rows


@pytest.mark.parametrize('first', PAIRS)
@pytest.mark.parametrize('second', PAIRS)
def test_a_detour_through_another_format_changes_nothing(
  first, second, tmp_path
):
  rows = [replace(pair(i), extra={'score': i}) for i in range(4)]
  direct = list(there_and_back(f'{first}:x', tmp_path / 'a', rows))
  again = there_and_back(f'{second}:y', tmp_path / 'b', direct)
  last = there_and_back(f'{first}:z', tmp_path / 'c', list(again))
  for found, expected in zip(last, direct, strict=True):
    assert same(found, expected), (found, expected)


@pytest.mark.parametrize('kind', PAIRS)
def test_a_worker_is_sent_where_rows_are_not_the_rows(kind, tmp_path):
  source = there_and_back(f'{kind}:x', tmp_path, [pair(i) for i in range(40)])
  sent = pickle.dumps(source)
  assert len(sent) < 3000
  assert list(pickle.loads(sent)) == list(source)


def test_what_is_edited_is_written_and_the_rest_stays_as_it_was(tmp_path):
  """The source's own way of writing goes only where it says something else."""
  odd = {
    'image': {'bytes': png(1), 'path': 'kept.png'},
    'text': '{"rejected":"b",  "question":"q", "chosen":"a"}',
    'idx': 4,
  }
  format = sources.module('rlhfv').FORMAT
  example = lossless.to_example(odd, 0, format=format)
  whole = lossless.to_row(example, 0, format=format)
  assert whole | odd == whole
  edited = lossless.to_row(
    replace(example, answers=('c', 'b')), 0, format=format
  )
  assert json.loads(edited['text'])['chosen'] == 'c'
  assert edited['image'] == odd['image'] and edited['idx'] == 4


words = st.text(st.characters(blacklist_categories=['Cs']), max_size=12)
json_values = st.recursive(
  st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words,
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
  ),
  max_leaves=6,
)
reserved = {*lossless.COMMON, *lossless.SPANS, 'facts', 'logps', 'system'}
names = words.filter(lambda name: name and name not in reserved)
extras = st.dictionaries(
  names.filter(lambda name: not name.startswith(('_row.', 'extra.'))),
  json_values,
  max_size=4,
)


@st.composite
def any_pair(draw):
  answers = tuple(draw(words) for _ in range(2))
  cuts = [sorted(draw(st.lists(st.integers(0, len(a)), max_size=4)))
          for a in answers]  # fmt: skip
  category = st.none() | words
  spans = tuple(
    tuple(
      (s, e, draw(category)) for s, e in zip(cut[::2], cut[1::2], strict=False)
    )
    for cut in cuts
  )
  return Example(
    id=draw(words.filter(bool)),
    image=png(draw(st.integers(0, 3))),
    turns=(('user', draw(words)),),
    answers=answers,
    spans=draw(st.sampled_from([None, spans])),
    image_path='',
    origin=draw(words),
    annotator=draw(words),
    model=draw(words),
    facts=tuple(draw(st.lists(words, max_size=2))),
    extra=draw(extras),
  )


@pytest.mark.parametrize('kind', PAIRS)
@pytest.mark.parametrize('said', ['\n', '\nwhat?', '\n\nwhat?'])
def test_a_line_that_ends_before_the_question_stays(kind, said):
  format = sources.module(kind).FORMAT
  asked = Example('0', png(1), (('user', said),), ('a cup.', 'a cap.'))
  found = lossless.to_example(
    lossless.to_row(asked, 0, format=format), 0, format=format
  )
  assert found.turns == asked.turns


@pytest.mark.parametrize('kind', PAIRS)
@settings(max_examples=150, deadline=None)
@given(example=any_pair(), index=st.integers(0, 9))
def test_any_pair_becomes_a_row_and_the_same_pair_again(kind, example, index):
  format = sources.module(kind).FORMAT
  row = lossless.to_row(example, index, format=format)
  found = lossless.to_example(row, index, format=format)
  assert replace(found, extra={}) == replace(example, extra={})
  told = {k: v for k, v in found.extra.items() if k[:5] != '_row.'}
  assert told == example.extra
  assert lossless.to_row(found, index, format=format) == row


def test_what_a_format_has_no_place_for_is_an_error_of_the_row(tmp_path):
  turns = (('user', 'a'), ('assistant', 'b'), ('user', 'c'))
  chat = replace(pair(0), turns=turns)
  for kind in ('rlhfv', 'rlaifv', 'muffin_tsv'):
    with pytest.raises(RowError, match=r'several turns: row 0 \(row-0\): 3'):
      sources.module(kind).write(tmp_path / 'x', [chat])
  with pytest.raises(RowError, match='not a pair: row 0 .*1 answers'):
    sources.module('rlhfv').write(
      tmp_path / 'x', [replace(pair(0), answers=('a',))]
    )
  with pytest.raises(RowError, match='no picture'):
    sources.module('rlhfv').write(
      tmp_path / 'x', [replace(pair(0), image=None)]
    )
