"""LLaVA's files: instructions, PPO's prompts, preferences and their facts."""

import json
import pickle

import pytest
from PIL import Image

from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example, RowError

NAMES = [f'{i:012d}.jpg' for i in (9, 25, 30)]


def said(*texts: str) -> list[dict]:
  roles = ['human', 'gpt'] * len(texts)
  return [
    {'from': role, 'value': text}
    for role, text in zip(roles, texts, strict=False)
  ]


INSTRUCTIONS = [
  {
    'id': '000000000009',
    'image': NAMES[0],
    'conversations': said('<image>\nWhat is it?', 'A cup.', 'Red?', 'Yes.'),
  },
  {
    'id': '000000000025',
    'image': NAMES[1],
    'conversations': said('Describe it.\n<image>', 'A tree.'),
    'caption_type': 3,
    'length_bonus': -0.5,
  },
  {'id': 'text', 'conversations': said('Two and two?', 'Four.')},
]
PREFERENCES = [
  {
    'id': '000000000009',
    'image': NAMES[0],
    'conversations': said('<image>\nWhat is it?', 'A cup.', 'Red?', 'later'),
    'output_1': {'from': 'llava', 'value': 'Yes, red.'},
    'output_2': {'from': 'llava', 'value': 'No, blue.'},
    'preference': 2,
    'hallucination': True,
  },
  {
    'id': '000000000025',
    'image': NAMES[1],
    'conversations': said('<image>\nDescribe it.', 'later'),
    'output_1': {'from': 'llava', 'value': 'A tree.'},
    'output_2': {'from': 'llava', 'value': 'A tree and a dog.'},
    'preference': 1,
    'hallucination': False,
  },
]


@pytest.fixture
def folder(tmp_path):
  """Rows beside their pictures, as people keep COCO."""
  pictures = tmp_path / 'data/coco/train2017'
  pictures.mkdir(parents=True)
  for i, name in enumerate(NAMES):
    Image.new('RGB', (8, 6), (i, 0, 0)).save(pictures / name)
  return tmp_path / 'data'


def put(folder, rows, name='rows.json'):
  (folder / name).write_text(json.dumps(rows))
  return folder


def picture(folder, i: int) -> bytes:
  return (folder / 'coco/train2017' / NAMES[i]).read_bytes()


def test_instructions(folder):
  source = sources.open(f'llava:{put(folder, INSTRUCTIONS)}')
  first, second, third = pickle.loads(pickle.dumps(source))
  assert first.turns == (
    ('user', 'What is it?'), ('assistant', 'A cup.'), ('user', 'Red?'),
  )  # fmt: skip
  assert first.answers == ('Yes.',) and first.image == picture(folder, 0)
  assert first.image_path == NAMES[0]
  assert second.turns == (('user', 'Describe it.'),)
  assert second.extra['length_bonus'] == -0.5
  assert third.image is None and third.answers == ('Four.',)


def test_prompts_are_the_first_questions_with_their_facts(folder):
  put(folder, INSTRUCTIONS)
  told = {NAMES[0]: ['a cup', 'red'], f'aok_{NAMES[1]}': ['because']}
  put(folder, told, 'image_to_caption.json')
  first, second, _ = sources.open(f'llava:{folder}?prompts=true')
  assert (first.turns, first.answers) == ((('user', 'What is it?'),), ())
  assert first.facts == ('a cup', 'red')
  # Option B is right, so it is a multiple choice and goes by its reasons.
  assert second.extra['caption_type'] == 3 and second.facts == ('because',)


def test_a_rows_own_captions_are_its_facts(folder):
  put(folder, [INSTRUCTIONS[0] | {'captions': ['a cup on a table']}])
  put(folder, {NAMES[0]: ['another']}, 'image_to_caption.json')
  (only,) = sources.open(f'llava:{folder}')
  assert only.facts == ('a cup on a table',)


def test_preferences(folder):
  put(folder, PREFERENCES)
  put(folder, {NAMES[0]: ['a blue cup']}, 'image_to_caption.json')
  first, second = sources.open(f'llava_rlhf:{folder}')
  assert first.answers == ('No, blue.', 'Yes, red.')
  assert first.turns[-1] == ('user', 'Red?') and len(first.turns) == 3
  assert first.facts == ('a blue cup',) and second.facts == ()
  assert first.extra['hallucination'] is True
  assert second.answers == ('A tree.', 'A tree and a dog.')


@pytest.mark.parametrize(
  'kind, rows', [('llava', INSTRUCTIONS), ('llava_rlhf', PREFERENCES)]
)
def test_what_is_written_is_the_rows_that_were_read(folder, kind, rows):
  examples = list(sources.open(f'{kind}:{put(folder, rows)}'))
  out = folder / 'again'
  sources.module(kind).write(out, examples)
  assert list(sources.open(f'{kind}:{out}')) == examples
  assert json.loads((out / 'rows.json').read_text()) == rows


def test_examples_from_elsewhere_survive(tmp_path):
  path = tmp_path / 'a.png'
  Image.new('RGB', (4, 4)).save(path)
  pair = Example(
    'x', path.read_bytes(), (('user', 'What?'),), ('a cup', 'a cap'),
    (((2, 5, 'object'),), ((2, 5, None),)), annotator='me', model='m',
    facts=('true',), extra={'n': [1]},
  )  # fmt: skip
  sources.module('llava_rlhf').write(tmp_path / 'out', [pair])
  (again,) = sources.open(f'llava_rlhf:{tmp_path}/out')
  assert again.extra.pop('preference') == 1
  assert again.image_path.startswith('images/')
  for name in ('image', 'turns', 'answers', 'spans', 'annotator', 'model',
               'facts', 'extra'):  # fmt: skip
    assert getattr(again, name) == getattr(pair, name), name
  with pytest.raises(RowError, match=r'row 0 \(x\): 2 answers: write pairs'):
    sources.module('llava').write(tmp_path / 'no', [pair])


@pytest.mark.parametrize(
  'change, says',
  [
    ({'preference': 3}, 'preference: .*row 0.*3: 1 or 2'),
    ({'preference': None}, 'missing key.*preference'),
    ({'output_1': {'from': 'llava'}}, 'missing key.*value of output_1'),
    ({'image': 'gone.jpg'}, 'no such picture.*gone.jpg'),
    ({'image': '../../secret.jpg'}, 'picture outside the folder'),
    ({'image': [NAMES[0], NAMES[1]]}, 'several pictures'),
    ({'conversations': [{'value': 'what?'}]}, 'malformed turn'),
    ({'conversations': [{'from': 'parrot', 'value': '?'}]}, 'unknown role'),
    ({'output_1': {'from': 'llava', 'value': 7}}, 'wrong type'),
  ],
)
def test_a_bad_row_is_named_and_the_others_are_read(folder, change, says):
  put(folder, [PREFERENCES[0] | change, PREFERENCES[1]])
  source = sources.open(
    f'llava_rlhf:{folder}', images=folder / 'coco/train2017'
  )
  with pytest.raises(RowError, match=says) as error:
    source[0]
  assert f'{folder}/rows.json, row 0' in str(error.value)
  assert source[1].id == '000000000025'


def test_trouble_with_files_is_told_when_they_are_opened(folder):
  with pytest.raises(ValueError, match='one JSON file is read, here are none'):
    sources.open(f'llava:{folder}')
  put(folder, INSTRUCTIONS)
  put(folder, INSTRUCTIONS, 'more.json')
  with pytest.raises(ValueError, match='here are more.json, rows.json'):
    sources.open(f'llava:{folder}')
  (folder / 'more.json').unlink()
  (folder / 'rows.json').write_text(json.dumps(INSTRUCTIONS)[:-20])
  with pytest.raises(ValueError, match='cut short after 2 whole records'):
    sources.open(f'llava:{folder}')
  put(folder, [INSTRUCTIONS[0] | {'image': 'gone.jpg'}])
  with pytest.raises(ValueError, match='say where the pictures are'):
    sources.open(f'llava:{folder}')
