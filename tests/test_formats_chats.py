"""TRL, LLaMA-Factory and ms-swift, in the files others write."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_formats_lossless import pair, png

from rlhfv_jax.data import sources

IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
HUMAN, GOOD, BAD = 'What is it?', 'A red cup.', 'A blue cup.'


def written(path, rows: list[dict]) -> str:
  """Their rows as parquet, or as JSON with pictures a.png and b/c.png."""
  path.parent.mkdir(parents=True, exist_ok=True)
  (path.parent / 'b').mkdir(exist_ok=True)
  (path.parent / 'a.png').write_bytes(png(1))
  (path.parent / 'b/c.png').write_bytes(png(2))
  if path.suffix == '.parquet':
    images = pa.array([row['images'] for row in rows], pa.list_(IMAGE))
    columns = {k: [row[k] for row in rows] for k in rows[0] if k != 'images'}
    pq.write_table(pa.table(columns).append_column('images', images), path)
  elif path.suffix == '.json':
    path.write_text(json.dumps(rows))
  else:
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def read(path) -> list[dict]:
  if path.suffix == '.parquet':
    return pq.read_table(path).to_pylist()
  if path.suffix == '.json':
    return json.loads(path.read_text())
  return [json.loads(line) for line in path.read_text().splitlines()]


def there_and_back(kind: str, rows: list[dict], folder, suffix: str):
  theirs = written(folder / 'theirs' / f'data{suffix}', rows)
  source = sources.open(f'{kind}:{theirs}')
  ours = folder / 'ours' / f'data{suffix}'
  sources.module(kind).write(ours, source)
  return source, read(ours)


def messages(
  *texts: str, tags=('role', 'content'), names=('user', 'assistant')
):
  return [
    {tags[0]: names[i % 2], tags[1]: text} for i, text in enumerate(texts)
  ]


def parts(*told) -> list[dict]:
  return [
    {'type': 'image'} if text is None else {'type': 'text', 'text': text}
    for text in told
  ]


# ---- TRL

PARTS = {
  'prompt': [{'role': 'user', 'content': parts(None, HUMAN)}],
  'chosen': [{'role': 'assistant', 'content': parts(GOOD)}],
  'rejected': [{'role': 'assistant', 'content': parts(BAD)}],
}
AFTER = PARTS | {'prompt': [{'role': 'user', 'content': parts(HUMAN, None)}]}
TEXTS = {
  'prompt': messages(HUMAN),
  'chosen': [{'role': 'assistant', 'content': GOOD}],
  'rejected': [{'role': 'assistant', 'content': BAD}],
}
PLAIN = {'prompt': HUMAN, 'chosen': GOOD, 'rejected': BAD}
IMPLICIT = {
  'chosen': [*PARTS['prompt'], *PARTS['chosen']],
  'rejected': [*PARTS['prompt'], *PARTS['rejected']],
}
SYSTEM = PARTS | {
  'prompt': [{'role': 'system', 'content': parts('Be kind.')}, *PARTS['prompt']]
}
LONE = {
  'prompt': PARTS['prompt'],
  'completion': [{'role': 'assistant', 'content': parts(GOOD)}],
}


@pytest.mark.parametrize(
  'row', [PARTS, AFTER, TEXTS, PLAIN, SYSTEM, IMPLICIT, LONE]
)
@pytest.mark.parametrize('suffix', ['.jsonl', '.parquet'])
def test_trl(tmp_path, row, suffix):
  images = (
    ['a.png'] if suffix == '.jsonl' else [{'bytes': png(1), 'path': 'x.png'}]
  )
  rows = [row | {'images': images, 'score': i} for i in range(3)]
  source, ours = there_and_back('trl', rows, tmp_path, suffix)
  one = source[2]
  mark = '<image>' if row is AFTER else ''
  assert one.turns == (('user', HUMAN + mark),) and one.image == png(1)
  assert one.answers == ((GOOD,) if row is LONE else (GOOD, BAD))
  assert one.extra['score'] == 2
  assert one.image_path == ('a.png' if suffix == '.jsonl' else 'x.png')
  assert one.extra.get('system') == ('Be kind.' if row is SYSTEM else None)
  if suffix == '.jsonl':
    assert ours == rows
    assert (tmp_path / 'ours/a.png').read_bytes() == png(1)
  else:
    assert ours == read(tmp_path / 'theirs/data.parquet')


@pytest.mark.parametrize('suffix', ['.jsonl', '.parquet'])
def test_trl_with_a_picture_instead_of_a_list_of_one(tmp_path, suffix):
  path = tmp_path / f'data{suffix}'
  if suffix == '.jsonl':
    written(path, [PLAIN | {'image': 'a.png'}] * 2)
  else:
    images = pa.array([{'bytes': png(1), 'path': None}] * 2, IMAGE)
    told = pa.table({name: [text] * 2 for name, text in PLAIN.items()})
    pq.write_table(told.append_column('image', images), path)
  source = sources.open(f'trl:{path}')
  assert source[0].image == png(1) and source[0].answers == (GOOD, BAD)
  sources.module('trl').write(tmp_path / 'ours' / path.name, source)
  assert read(tmp_path / 'ours' / path.name) == read(path)


def test_an_edited_row_is_written_in_the_form_of_the_others(tmp_path):
  """Or a column would hold text in one row and messages in the next."""
  rows = [PLAIN | {'images': ['a.png']}] * 3
  source, _ = there_and_back('trl', rows, tmp_path, '.jsonl')
  edited = [replace(e, answers=('A mug.', BAD)) for e in source]
  mixed = [edited[0], *list(source)[1:]]
  sources.module('trl').write(tmp_path / 'b.parquet', mixed)
  found = read(tmp_path / 'b.parquet')
  assert [row['chosen'] for row in found] == ['A mug.', GOOD, GOOD]


def test_rows_of_two_forms_are_refused_not_garbled(tmp_path):
  one, _ = there_and_back(
    'trl', [PLAIN | {'images': ['a.png']}], tmp_path, '.jsonl'
  )
  other = pair(0)
  with pytest.raises(ValueError, match='column prompt: some rows say it one'):
    sources.module('trl').write(tmp_path / 'b.parquet', [one[0], other])
  for form in ('parts', 'messages', 'plain'):
    path = tmp_path / f'{form}.parquet'
    sources.module('trl').write(path, [one[0], other], form=form)
    assert [e.answers for e in sources.open(f'trl:{path}')] == [
      one[0].answers,
      other.answers,
    ]


# ---- LLaMA-Factory


def sharegpt(question: str, *, tags=('from', 'value'), names=('human', 'gpt')):
  good, bad = ({tags[0]: names[1], tags[1]: text} for text in (GOOD, BAD))
  told = messages(question, tags=tags, names=names)
  return {'conversations': told, 'chosen': good, 'rejected': bad}


@pytest.mark.parametrize('suffix', ['.json', '.jsonl', '.parquet'])
@pytest.mark.parametrize(
  'question, turn',
  [
    (f'<image>{HUMAN}', HUMAN),
    (f'<image>\n{HUMAN}', HUMAN),
    (f'{HUMAN}<image>', f'{HUMAN}<image>'),
  ],
)
def test_llamafactory(tmp_path, suffix, question, turn):
  name = 'b/c.png'
  images = [{'bytes': png(2), 'path': name}] if suffix == '.parquet' else [name]
  rows = [
    sharegpt(question) | {'images': images, 'system': 'Be kind.', 'n': 1.5}
  ]
  source, ours = there_and_back('llamafactory', rows, tmp_path, suffix)
  (one,) = source
  assert one.turns == (('user', turn),) and one.answers == (GOOD, BAD)
  assert one.image == png(2) and one.image_path == name
  assert one.extra['system'] == 'Be kind.' and one.extra['n'] == 1.5
  assert [dict(sorted(row.items())) for row in ours] == [
    dict(sorted(row.items())) for row in rows
  ]


def test_llamafactorys_own_names_for_columns_and_tags(tmp_path):
  row = sharegpt(
    f'<image>{HUMAN}', tags=('role', 'content'), names=('user', 'assistant')
  )
  row = {
    'talk': row['conversations'], 'better': row['chosen'],
    'worse': row['rejected'], 'pictures': ['a.png'],
  }  # fmt: skip
  written(tmp_path / 'pairs.json', [row])
  info = {
    'other': {'file_name': 'other.json'},
    'mine': {
      'file_name': 'pairs.json', 'ranking': True, 'formatting': 'sharegpt',
      'columns': {'messages': 'talk', 'chosen': 'better', 'rejected': 'worse',
                  'images': 'pictures'},
    },
  }  # fmt: skip
  (tmp_path / 'dataset_info.json').write_text(json.dumps(info))
  for path in (tmp_path, tmp_path / 'pairs.json'):
    (one,) = sources.open(f'llamafactory:{path}')
    assert one.turns == (('user', HUMAN),) and one.answers == (GOOD, BAD)
    assert one.image == png(1)
  sources.module('llamafactory').write(tmp_path / 'out', [one])
  entry = json.loads((tmp_path / 'out/dataset_info.json').read_text())['out']
  assert entry['tags']['assistant_tag'] == 'assistant' and entry['ranking']
  (again,) = sources.open(f'llamafactory:{tmp_path}/out')
  assert again == one


def test_a_row_of_ours_is_as_llamafactory_demands(tmp_path):
  """As many marks as pictures, the human last, a file that its entry names."""
  rows = [pair(i) for i in range(4)]
  sources.module('llamafactory').write(tmp_path / 'out', rows)
  entry = json.loads((tmp_path / 'out/dataset_info.json').read_text())['out']
  found = read(tmp_path / 'out' / entry['file_name'])
  for row in found:
    told = row[entry['columns']['messages']]
    assert told[-1]['from'] == 'human'
    marks = sum(message['value'].count('<image>') for message in told)
    assert marks == len(row[entry['columns']['images']]) == 1
    (name,) = row['images']
    assert (tmp_path / 'out' / name).is_file()
    assert row['chosen'].keys() == {'from', 'value'}


# ---- ms-swift


@pytest.mark.parametrize(
  'rejected',
  [
    {'rejected_response': BAD},
    {'rejected_response': messages('', BAD)[1:]},
    {'rejected_messages': messages(f'<image>{HUMAN}', BAD),
     'rejected_images': ['a.png']},
  ],
)  # fmt: skip
@pytest.mark.parametrize('system', [False, True])
def test_swift(tmp_path, rejected, system):
  told = messages(f'<image>{HUMAN}', GOOD)
  if system:
    told = [{'role': 'system', 'content': 'Be kind.'}, *told]
  rows = [{'messages': told, **rejected, 'images': ['a.png'], 'margin': 0.5}]
  source, ours = there_and_back('swift', rows, tmp_path, '.jsonl')
  (one,) = source
  assert one.turns == (('user', HUMAN),) and one.answers == (GOOD, BAD)
  assert one.extra['margin'] == 0.5 and one.image == png(1)
  assert ours == rows


def test_swifts_demonstrations_and_questions(tmp_path):
  rows = [
    {'messages': messages(HUMAN, GOOD, HUMAN, GOOD)},
    {'messages': messages(HUMAN)},
  ]
  source, ours = there_and_back('swift', rows, tmp_path, '.jsonl')
  assert source[0].answers == (GOOD,) and len(source[0].turns) == 3
  assert source[1].answers == () and source[1].image is None
  assert ours == rows


# ---- pictures beside records


def test_pictures_are_kept_apart_whatever_they_are_called(tmp_path):
  """Two pictures of one name, and names that lead elsewhere."""
  names = (
    'a.png',
    'a.png',
    '/etc/a.png',
    '../a.png',
    'data.jsonl',
    'a.png/b.png',
  )
  rows = [
    replace(pair(0), id=f'{i}', image=png(i), image_path=name)
    for i, name in enumerate(names)
  ]
  folder = tmp_path / 'in' / 'out'
  sources.module('swift').write(folder, rows)
  source = sources.open(f'swift:{folder}')
  assert [replace(example, extra={}) for example in source] == rows
  assert [path.name for path in folder.parent.iterdir()] == ['out']
  assert (folder / 'a.png').read_bytes() == png(0)
