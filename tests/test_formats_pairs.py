"""RLHF-V, RLAIF-V, UniMM-Chat and Muffin's TSV, in the files others write."""

import base64
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_formats_lossless import png

from rlhfv_jax.data import sources

LOGPS = [-9.5, -0.5, [-1.0, -8.5], -12.25, -0.25, [-2.0, -10.25]]
SPLIT = '{"model": "Qwen-VL-Chat", "type": "question answering"}'
IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])


def table(rows: list[dict]) -> pa.Table:
  """As pandas and datasets write them: types from the values, one group."""
  columns = {name: [row[name] for row in rows] for name in rows[0]}
  return pa.table(
    {
      name: pa.array(values, IMAGE if name == 'image' else None)
      for name, values in columns.items()
    }
  )


def rlhfv(i: int, *, logps: bool = False) -> dict:
  text = {
    'question': f'What is it? {i}', 'chosen': f'A red cup. {i}',
    'rejected': f'A blue cup, "so". {i}',
  }  # fmt: skip
  if logps:
    text['logps'] = LOGPS
  return {
    'ds_name': 'RLHF-V',
    'image': {'bytes': png(i), 'path': f'{i}.png'},
    'text': json.dumps(text),
    'origin_dataset': 'COCO',
    'origin_split': SPLIT,
    'idx': 100 + i,
    'image_path': f'./images/COCO_train2014_{i:012d}.jpg',
  }


def rlaifv(i: int, *, logps: bool = False) -> dict:
  row = rlhfv(i)
  text = json.loads(row.pop('text'))
  more = {'logps': json.dumps({'logps': LOGPS})} if logps else {}
  return row | text | {'idx': f'{i}', 'origin_split': '{"model": 3}'} | more


def there_and_back(kind: str, rows: list[dict], tmp_path):
  """Their file, its examples, our file of them as plain rows."""
  pq.write_table(table(rows), tmp_path / 'theirs.parquet')
  source = sources.open(f'{kind}:{tmp_path}/theirs.parquet')
  ours = tmp_path / 'ours.parquet'
  sources.module(kind).write(ours, source)
  return source, pq.read_table(ours)


@pytest.mark.parametrize('logps', [False, True])
def test_rlhfv(tmp_path, logps):
  rows = [rlhfv(i, logps=logps) for i in range(3)]
  source, ours = there_and_back('rlhfv', rows, tmp_path)
  one = source[1]
  assert (one.id, one.image) == ('101', png(1))
  assert one.turns == (('user', 'What is it? 1'),)
  assert one.answers == ('A red cup. 1', 'A blue cup, "so". 1')
  assert one.spans is None
  assert (one.origin, one.model) == ('COCO', 'Qwen-VL-Chat')
  assert one.image_path == './images/COCO_train2014_000000000001.jpg'
  assert one.extra.get('logps') == (LOGPS if logps else None)
  assert ours.to_pylist() == rows
  assert ours.schema.types == table(rows).schema.types


@pytest.mark.parametrize(
  'text',
  [
    '{"chosen": "a",   "rejected": "b", "question": "q"}',
    '{"question": "q", "chosen": "a", "rejected": "b", "more": [1]}',
    {'question': 'q', 'chosen': 'a', 'rejected': 'b'},
    '{"question": "q", "chosen": "\\u00fc", "rejected": "ü"}',
  ],
)
def test_rlhfvs_text_however_it_is_written(tmp_path, text):
  rows = [rlhfv(0) | {'text': text, 'split': 'train', 'size': [640, 427]}]
  source, ours = there_and_back('rlhfv', rows, tmp_path)
  assert source[0].turns == (('user', 'q'),)
  assert source[0].extra['size'] == [640, 427]
  assert ours.to_pylist() == rows


def test_rlhfv_as_it_first_was_has_fewer_columns(tmp_path):
  row = rlhfv(0)
  row = {name: row[name] for name in ('image', 'text')}
  source, ours = there_and_back('rlhfv', [row], tmp_path)
  assert source[0].id == '0' and source[0].origin == source[0].model == ''
  assert ours.to_pylist() == [row]


def test_rlhfvs_cache_beside_its_data_is_not_read_twice(tmp_path):
  pq.write_table(table([rlhfv(0)]), tmp_path / 'RLHF-V-Dataset.parquet')
  cached = tmp_path / 'muffin_with_logp.parquet'
  pq.write_table(table([rlhfv(0, logps=True)]), cached)
  with pytest.raises(ValueError, match=r'log-probs \(muffin_with_logp.parquet'):
    sources.open(f'rlhfv:{tmp_path}')
  assert sources.open(f'rlhfv:{cached}')[0].extra['logps'] == LOGPS


@pytest.mark.parametrize('logps', [False, True])
def test_rlaifv(tmp_path, logps):
  rows = [rlaifv(i, logps=logps) for i in range(3)]
  source, ours = there_and_back('rlaifv', rows, tmp_path)
  one = source[2]
  assert one.answers == ('A red cup. 2', 'A blue cup, "so". 2')
  assert one.turns == (('user', 'What is it? 2'),) and one.id == '2'
  assert one.model == '' and one.extra['origin_split'] == '{"model": 3}'
  assert one.extra.get('logps') == (LOGPS if logps else None)
  assert ours.to_pylist() == rows


def test_log_probs_go_where_each_format_has_them(tmp_path):
  rows = [rlhfv(0, logps=True)]
  source, _ = there_and_back('rlhfv', rows, tmp_path)
  sources.module('rlaifv').write(tmp_path / 'b.parquet', source)
  (row,) = pq.read_table(tmp_path / 'b.parquet').to_pylist()
  assert json.loads(row['logps']) == {'logps': LOGPS}
  again = sources.open(f'rlaifv:{tmp_path}/b.parquet')
  sources.module('muffin_tsv').write(tmp_path / 'c', again)
  (line,) = (tmp_path / 'c/c-1.tsv').read_text().splitlines()
  text = json.loads(base64.b64decode(line.split('\t')[2]))
  assert text == ['What is it? 0', 'A red cup. 0', 'A blue cup, "so". 0', LOGPS]


def test_unimm(tmp_path):
  said = [
    {'from': 'human', 'value': 'Hello?'}, {'from': 'gpt', 'value': 'A cup.'},
    {'from': 'human', 'value': 'Red?'}, {'from': 'gpt', 'value': 'Yes.'},
  ]  # fmt: skip
  marked = [{**said[0], 'value': '<image>\nHello?'}, *said[1:]]
  rows = [
    {
      'ds_name': 'unimm-chat', 'image': {'bytes': png(0), 'path': None},
      'conversation': json.dumps(told), 'origin_dataset': 'COCO', 'idx': i,
      'image_path': '139.jpg',
    }
    for i, told in enumerate((said, marked, said[:3]))
  ]  # fmt: skip
  source, ours = there_and_back('unimm', rows, tmp_path)
  turns = (('user', 'Hello?'), ('assistant', 'A cup.'), ('user', 'Red?'))
  assert source[0].turns == source[1].turns == source[2].turns == turns
  assert source[0].answers == ('Yes.',) and source[2].answers == ()
  assert ours.to_pylist() == rows


# ---- Muffin's TSV


def b64(value) -> str:
  value = value if isinstance(value, bytes) else value.encode()
  return base64.b64encode(value).decode()


def lines(*texts, split='') -> list[str]:
  split = split or b64(SPLIT)
  return [
    '\t'.join(
      [
        'dpo',
        b64(png(i)),
        b64(json.dumps(text)),
        'docrp',
        split,
        f'{i}',
        f'{i}.jpg',
      ]
    )
    for i, text in enumerate(texts)
  ]


def muffin(path):
  """Rows as Muffin finds them: by line index, in a file opened as text."""
  starts = map(int, path.with_suffix('.lineidx').read_text().split())
  with open(path) as file:
    for start in starts:
      file.seek(start)
      yield [value.strip() for value in file.readline().split('\t')]


@pytest.mark.parametrize(
  'texts, split',
  [
    ([['q?', 'good', 'bad'], ['q2?', 'gut', 'schlecht']], b64(SPLIT)),
    ([['q?', 'good', 'bad', LOGPS]], b64(SPLIT)),
    ([[{'from': 'human', 'value': '<image>\nq?'},
       {'from': 'gpt', 'value': 'a'}]], 'train'),
    ([{'question': 'q?', 'answer': 'two'}], 'vqav2-train'),
  ],
)  # fmt: skip
def test_muffins_tsv(tmp_path, texts, split):
  theirs = tmp_path / 'theirs' / f'dpo-{len(texts)}.tsv'
  theirs.parent.mkdir()
  theirs.write_text(''.join(f'{line}\n' for line in lines(*texts, split=split)))
  source = sources.open(f'muffin_tsv:{theirs}')
  one = source[0]
  assert one.image == png(0) and one.turns == (('user', 'q?'),)
  assert (one.origin, one.image_path, one.id) == ('docrp', '0.jpg', '0')
  sources.module('muffin_tsv').write(tmp_path / 'dpo', source)
  ours = tmp_path / 'dpo' / theirs.name
  assert ours.read_bytes() == theirs.read_bytes()
  found = [row for row in muffin(ours)]
  assert [json.loads(base64.b64decode(row[2])) for row in found] == texts
  assert [base64.b64decode(row[1]) for row in found] == [
    png(i) for i in range(len(texts))
  ]


def test_a_pair_in_a_tsv_tells_its_model(tmp_path):
  (line,) = lines(['q?', 'good', 'bad'])
  (tmp_path / 'a-1.tsv').write_text(line)  # no new line at its end
  (one,) = sources.open(f'muffin_tsv:{tmp_path}')
  assert one.answers == ('good', 'bad') and one.model == 'Qwen-VL-Chat'


def test_a_large_tsv_is_several_files(tmp_path, monkeypatch):
  monkeypatch.setattr('rlhfv_jax.data.storage.tsv.ROWS_PER_FILE', 2)
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a/a-5.tsv').write_text(
    ''.join(
      f'{line}\n' for line in lines(*[['q', f'{i}', 'b'] for i in range(5)])
    )
  )
  rows = list(sources.open(f'muffin_tsv:{tmp_path}/a'))
  sources.module('muffin_tsv').write(tmp_path / 'b', rows)
  found = sorted(path.name for path in (tmp_path / 'b').glob('*.tsv'))
  assert found == ['b_0-2.tsv', 'b_1-2.tsv', 'b_2-1.tsv']
  assert list(sources.open(f'muffin_tsv:{tmp_path}/b')) == rows
  sources.module('muffin_tsv').write(tmp_path / 'b', rows[:2])
  assert sorted(path.name for path in (tmp_path / 'b').iterdir()) == [
    'b-2.lineidx',
    'b-2.tsv',
  ]


# ---- files whose rows cannot be reached one by one


def test_a_file_of_one_huge_group_is_copied_in_small_ones(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('RLHFV_JAX_CACHE', str(tmp_path / 'cache'))
  rng = np.random.default_rng(0)
  rows = [
    rlhfv(i) | {'image': {'bytes': rng.bytes(2**18), 'path': None}}
    for i in range(80)
  ]
  path = tmp_path / 'a.parquet'
  pq.write_table(table(rows), path)
  assert pq.read_metadata(path).num_row_groups == 1
  source = sources.open(f'rlhfv:{path}')
  (copy,) = (tmp_path / 'cache/tables').iterdir()
  groups = pq.read_metadata(copy)
  assert groups.num_row_groups > 10
  for i in (79, 0, 40):
    assert source[i].image == rows[i]['image']['bytes']
  written = copy.stat().st_mtime_ns
  assert len(sources.open(f'rlhfv:{path}')) == 80
  assert copy.stat().st_mtime_ns == written
  assert source.where(7) == f'{path}, row 7'


def test_a_folder_of_two_splits_says_so(tmp_path):
  for name in ('test-00000-of-00001', 'train-00000-of-00001'):
    pq.write_table(table([rlaifv(0)]), tmp_path / f'{name}.parquet')
  with pytest.raises(ValueError, match='the splits test, train: name one'):
    sources.open(f'rlaifv:{tmp_path}')
  assert len(sources.open(f'rlaifv:{tmp_path}/train-*.parquet')) == 1
