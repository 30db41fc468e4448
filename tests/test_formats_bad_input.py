"""What is wrong with a file is named, with its file and its row."""

import base64
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_chat import TOKENIZER
from test_formats_lossless import png
from test_formats_pairs import b64, lines, rlaifv, rlhfv, table

from rlhfv_jax.data import chat, conversion, sources
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example, RowError

ASSISTANT = {'role': 'assistant', 'content': 'A cup.'}
SWIFT = {
  'messages': [{'role': 'user', 'content': '<image>what?'}, ASSISTANT],
  'rejected_response': 'A mug.',
  'images': ['a.png'],
}
FACTORY = {
  'conversations': [{'from': 'human', 'value': '<image>what?'}],
  'chosen': {'from': 'gpt', 'value': 'a'},
  'rejected': {'from': 'gpt', 'value': 'b'},
  'images': ['a.png'],
}
TRL = {'prompt': 'what?', 'chosen': 'a', 'rejected': 'b', 'images': ['a.png']}


def parquet(folder, rows: list[dict]) -> str:
  pq.write_table(table(rows), folder / 'a.parquet')
  return f'{folder}/a.parquet'


def jsonl(folder, rows: list) -> str:
  """Rows, some of which are bytes as they stand in the file."""
  (folder / 'a.png').write_bytes(png(0))
  told = [
    row if type(row) is bytes else json.dumps(row).encode() for row in rows
  ]
  (folder / 'a.jsonl').write_bytes(b'\n'.join(told) + b'\n')
  return f'{folder}/a.jsonl'


def refused(spec: str, row: int, reason: str) -> None:
  """That row alone, and by its place in its file."""
  source = sources.open(spec)
  for index in range(len(source)):
    if index != row:
      assert source[index].answers
  with pytest.raises(RowError, match=reason) as caught:
    source[row]
  where = f'{spec.partition(":")[2]}, '
  assert caught.value.detail.startswith(where), caught.value
  place = caught.value.detail.removeprefix(where)
  assert place.startswith((f'row {row}', f'line {row + 1}')), caught.value


# ---- a file


@pytest.mark.parametrize('kind', ['rlhfv', 'rlaifv', 'unimm'])
def test_a_column_that_is_missing(kind, tmp_path):
  pq.write_table(
    pa.table({'id': ['a'], 'prompt': ['b']}), tmp_path / 'a.parquet'
  )
  with pytest.raises(
    ValueError, match=r'a.parquet: no column image, .* among id, prompt'
  ):
    sources.open(f'{kind}:{tmp_path}/a.parquet')


@pytest.mark.parametrize('kind', ['trl', 'llamafactory', 'swift'])
def test_keys_that_are_missing(kind, tmp_path):
  path = jsonl(tmp_path, [{'id': 1, 'text': 'a'}])
  with pytest.raises(ValueError, match=r'a.jsonl: no .* among id, text'):
    sources.open(f'{kind}:{path}')


@pytest.mark.parametrize('kind', ['rlhfv', 'rlaifv', 'trl', 'swift'])
def test_a_parquet_file_cut_short(kind, tmp_path):
  path = tmp_path / 'a.parquet'
  pq.write_table(table([rlaifv(0), rlaifv(1)]), path)
  whole = path.read_bytes()
  for size in (0, 3, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:size])
    with pytest.raises(
      ValueError, match=rf'a.parquet: not a whole parquet file, {size} bytes'
    ):
      sources.open(f'{kind}:{path}')


def test_a_json_array_cut_short(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text(json.dumps([FACTORY] * 3)[:-40])
  with pytest.raises(ValueError, match='a.json: cut short after 2 whole'):
    sources.open(f'llamafactory:{path}')


def test_a_tsv_cut_short(tmp_path):
  (tmp_path / 'a-3.tsv').write_text('\n'.join(lines(['q', 'a', 'b'])))
  with pytest.raises(ValueError, match='a-3.tsv: 1 lines, and its name says 3'):
    sources.open(f'muffin_tsv:{tmp_path}')


@pytest.mark.parametrize('kind', ['rlhfv', 'trl', 'swift', 'muffin_tsv'])
def test_a_file_that_is_not_there(kind, tmp_path):
  with pytest.raises(ValueError, match='nowhere.*: no such file'):
    sources.open(f'{kind}:{tmp_path}/nowhere.parquet')


def test_a_kind_that_is_none():
  with pytest.raises(ValueError, match="'rlfhv': did you mean 'rlhfv'"):
    sources.open('rlfhv:somewhere')
  with pytest.raises(ValueError, match='no path after the kind'):
    sources.open('rlhfv:')


# ---- a row


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'text': '{"question": "q", "chosen": "a"'}, 'not JSON: .*text'),
    ({'text': '{"question": "q", "chosen": "a"}'}, 'missing key: .*rejected'),
    ({'text': '["q", "a", "b"]'}, 'wrong type: .*text is of type list'),
    ({'text': None}, 'wrong type: .*text is missing'),
    ({'text': '{"question": 3, "chosen": "a", "rejected": "b"}'},
     'wrong type: .*turn 0 is of type int'),
    ({'image': {'bytes': None, 'path': 'x.jpg'}}, "no such picture: .*'x.jpg'"),
  ],
)  # fmt: skip
def test_rows_of_rlhfv(tmp_path, change, reason):
  rows = [rlhfv(0), rlhfv(1), rlhfv(2) | change, rlhfv(3)]
  refused(f'rlhfv:{parquet(tmp_path, rows)}', 2, reason)


def test_a_column_of_a_wrong_type(tmp_path):
  rows = [rlaifv(0) | {'question': 3}]
  path = parquet(tmp_path, rows)
  refused(f'rlaifv:{path}', 0, 'wrong type: .*turn 0 is of type int, not text')
  numbers = pa.table(table([rlaifv(0)])).set_column(1, 'image', pa.array([7]))
  pq.write_table(numbers, path)
  refused(f'rlaifv:{path}', 0, 'wrong type: .*image is a int')


def test_text_in_parquet_that_is_not_utf8(tmp_path):
  rows = table([rlaifv(0), rlaifv(1)])
  at = rows.schema.names.index('chosen')
  wrong = pa.array([b'fine', b'caf\xe9']).view(pa.string())
  pq.write_table(rows.set_column(at, 'chosen', wrong), tmp_path / 'a.parquet')
  refused(f'rlaifv:{tmp_path}/a.parquet', 1, 'not UTF-8: .*0xe9')


@pytest.mark.parametrize(
  'bad, reason',
  [
    (json.dumps(SWIFT).encode()[:60], 'not JSON'),
    (b'[1, 2]', 'not an object'),
    (json.dumps(SWIFT).encode().replace(b'A mug', b'A m\xfcg'), 'not UTF-8'),
    (SWIFT | {'images': ['../secret.png']}, 'picture outside the folder'),
    (SWIFT | {'images': ['/etc/passwd']}, 'picture outside the folder'),
    (SWIFT | {'images': ['b.png']}, 'no such picture'),
    (SWIFT | {'images': ['a.png'] * 2}, 'several pictures: .*2'),
    (SWIFT | {'messages': 'what?'}, 'wrong type: .*no list of messages'),
    (SWIFT | {'messages': [{'content': 'a'}]}, 'malformed turn'),
    (SWIFT | {'messages': [{'role': 'tool', 'content': 'a'}]}, 'unknown role'),
    (SWIFT | {'messages': SWIFT['messages'][:1]}, 'half a pair'),
    (SWIFT | {'chosen_spans': [[1, 2]]}, 'wrong type: .*spans are lists of'),
    (SWIFT | {'chosen_spans': [{'start': '1', 'end': 2}]}, 'wrong type'),
  ],
)  # fmt: skip
def test_rows_of_swift(tmp_path, bad, reason):
  path = jsonl(tmp_path, [SWIFT, bad, SWIFT])
  refused(f'swift:{path}', 1, reason)


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'chosen': None}, 'missing key: .*chosen'),
    ({'chosen': {'from': 'human', 'value': 'a'}}, 'malformed turn: .*not from'),
    ({'chosen': 'a'}, 'malformed turn'),
    ({'conversations': None}, 'wrong type: .*conversations'),
    ({'conversations': [{'from': 'human', 'value': 3}]}, 'wrong type'),
  ],
)
def test_rows_of_llamafactory(tmp_path, change, reason):
  path = jsonl(tmp_path, [FACTORY, FACTORY | change])
  refused(f'llamafactory:{path}', 1, reason)


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'rejected': None}, 'missing key: .*rejected'),
    ({'prompt': None}, 'no prompt'),
    ({'prompt': 5}, 'wrong type'),
    ({'prompt': [{'role': 'user', 'content': [{'type': 'video'}]}]},
     'malformed turn: .*video'),
    ({'prompt': [], 'chosen': [ASSISTANT, ASSISTANT]}, 'chosen is not one'),
  ],
)  # fmt: skip
def test_rows_of_trl(tmp_path, change, reason):
  refused(f'trl:{jsonl(tmp_path, [TRL, TRL | change])}', 1, reason)


def test_rows_of_a_tsv(tmp_path):
  good = lines(['q', 'a', 'b'])[0]
  columns = good.split('\t')

  def changed(at: int, value: str) -> str:
    return '\t'.join([*columns[:at], value, *columns[at + 1 :]])

  bad = {
    changed(1, '!!'): 'not base64: .*image',
    changed(2, b64('["q", "a"]')): 'not a pair: .*2',
    changed(2, b64('["q", "a"')): 'not JSON: .*text',
    changed(2, b64('7')): 'wrong type: .*text',
    changed(2, base64.b64encode(b'"\xe9"').decode()): 'not UTF-8: .*0xe9',
    changed(4, 'plain'): 'not base64: .*origin_split',
    '\t'.join(columns[:5]): 'wrong number of columns: .*5 instead of 7',
  }
  for row, reason in bad.items():
    (tmp_path / 'a.tsv').write_text(f'{good}\n{row}\n{good}\n')
    refused(f'muffin_tsv:{tmp_path}/a.tsv', 1, reason)


# ---- what is readable but wrong is refused where it would be used


BAD = {
  'undecodable picture': {'image': b'no picture'},
  'image placeholder': {'answers': ('<image> a', 'b')},
  'span outside its answer': {'spans': (((0, 6, None),), ())},
  'overlapping spans': {'spans': (((3, 5, None), (0, 4, 'object')), ())},
  'spans': {'spans': ((),)},
  'half a character': {'answers': ('a \ud800', 'b')},
}


@pytest.mark.parametrize('reason', BAD)
def test_a_conversion_leaves_out_what_would_harm_others(reason, tmp_path):
  good = Example('good', png(1), (('user', 'q'),), ('a cup', 'a mug'))
  rows = [good, replace(good, id='bad', **BAD[reason]), good]
  usable = conversion.Usable(rows, sources.module('trl'))
  sources.module('trl').write(tmp_path / 'out', usable)
  assert [e.id for e in sources.open(f'trl:{tmp_path}/out')] == ['good', 'good']
  ((row, told),) = usable.rejected.items()
  assert row == 1 and told['reason'] == reason
  assert told['detail'].startswith('row 1 (bad): ')


def test_a_row_that_cannot_be_read_does_not_end_the_reading(tmp_path):
  rows = [SWIFT, SWIFT | {'images': ['b.png']}, b'{', SWIFT]
  for row in (rows[0], rows[3]):
    row['messages'] = [
      {'role': 'user', 'content': 'what can you see?'},
      {'role': 'assistant', 'content': 'a red cup.'},
    ]
    row['rejected_response'] = 'a blue cup.'
  source = sources.open(f'swift:{jsonl(tmp_path, rows)}')
  found = encode_all(
    source, TOKENIZER, chat.template('playroom'), image_tokens=4
  )
  assert found.kept == 2
  assert [(r.index, r.reason) for r in found.rejected] == [
    (1, 'no such picture'),
    (2, 'not JSON'),
  ]
  assert all(f'{tmp_path}/a.jsonl, row' in r.detail for r in found.rejected)
