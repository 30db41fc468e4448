"""What was written is read back; what was cut short says so by name."""

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhfv_jax.data import sources
from rlhfv_jax.data.rows import Example, RowError
from rlhfv_jax.data.storage import tables


def example(i: int, image: bytes | None = None) -> Example:
  turns = (('user', f'question {i}'), ('assistant', 'yes'), ('user', 'why?'))
  answers = ('because', f'no {i}', '')[: 1 + i % 3]
  spans = None if i % 3 else (((0, 4, 'object'), (5, 6, None)),)
  return Example(f'row-{i}', image, turns, answers, spans)


def noise(n: int, size: int = 1000) -> list[Example]:
  rng = np.random.default_rng(0)
  return [example(i, rng.bytes(size) if i % 4 else None) for i in range(n)]


def test_examples_come_back_as_they_were(tmp_path):
  rows = noise(700)
  sources.write(tmp_path / 'a.parquet', iter(rows))
  source = sources.read(tmp_path / 'a.parquet')
  assert len(source) == 700
  assert list(source) == rows
  for index in (699, 0, 350):
    assert source[index] == rows[index]
  with pytest.raises(IndexError, match='row 700 of 700'):
    source[700]


def test_large_data_is_shards_of_one_folder(tmp_path):
  rows = noise(900)
  sources.write(tmp_path / 'a', rows, shard_bytes=200_000)
  shards = sorted(path.name for path in (tmp_path / 'a').iterdir())
  assert len(shards) > 2
  assert shards[0] == f'00000-of-{len(shards):05}.parquet'
  assert list(sources.read(tmp_path / 'a')) == rows
  (tmp_path / 'a' / shards[1]).unlink()
  with pytest.raises(
    ValueError,
    match=rf'{tmp_path}/a: {len(shards) - 1} shards of {len(shards)}',
  ):
    sources.read(tmp_path / 'a')


@pytest.mark.parametrize('name', ['a.parquet', 'a'])
def test_writing_again_replaces(tmp_path, name):
  sources.write(tmp_path / name, noise(9))
  sources.write(tmp_path / name, noise(5))
  assert len(sources.read(tmp_path / name)) == 5
  assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('name', ['a.parquet', 'a'])
def test_a_writing_that_fails_leaves_the_old(tmp_path, name):
  rows = noise(5)
  sources.write(tmp_path / name, rows)

  def failing():
    yield from noise(2000)
    raise RuntimeError('out of scenes')

  with pytest.raises(RuntimeError, match='out of scenes'):
    sources.write(tmp_path / name, failing())
  assert list(sources.read(tmp_path / name)) == rows
  assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_to_write_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='a.parquet: no examples to write'):
    sources.write(tmp_path / 'a.parquet', [])


@pytest.mark.parametrize('left', [0, 3, 100, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, left):
  path = tmp_path / 'a.parquet'
  sources.write(path, noise(100))
  whole = path.read_bytes()
  size = int(left * len(whole)) if isinstance(left, float) else left
  path.write_bytes(whole[:size])
  with pytest.raises(
    ValueError, match=rf'{path}: not a whole parquet file, {size} bytes'
  ):
    sources.read(path)


def test_one_wrong_bit_is_noticed(tmp_path):
  path = tmp_path / 'a.parquet'
  rows = [example(i, b'picture' * 999) for i in range(4)]
  sources.write(path, rows)
  whole = bytearray(path.read_bytes())
  whole[whole.index(b'picturepicture') + 5000] ^= 1
  path.write_bytes(whole)
  source = sources.read(path)
  with pytest.raises(ValueError, match=rf'{path}, group 0: .*damaged'):
    source[0]


def test_a_file_that_is_not_there_is_named(tmp_path):
  with pytest.raises(ValueError, match='nowhere.parquet: no such file'):
    sources.read(tmp_path / 'nowhere.parquet')
  with pytest.raises(ValueError, match='no parquet files'):
    sources.read(tmp_path)


def test_a_file_of_another_kind_says_which_columns_it_has(tmp_path):
  path = tmp_path / 'other.parquet'
  pq.write_table(pa.table({'id': ['a'], 'image': [b''], 'text': ['{}']}), path)
  with pytest.raises(
    ValueError, match='no column turns, answers, spans among id, image, text'
  ):
    sources.read(path)


def test_sources_follow_one_another(tmp_path):
  rows = noise(30)
  sources.write(tmp_path / 'a.parquet', rows[:10])
  sources.write(tmp_path / 'b', rows[10:])
  both = sources.read(tmp_path / 'a.parquet', tmp_path / 'b')
  assert list(both) == rows


def test_rows_in_order_are_those_in_any_order(tmp_path):
  """Those in order are read by the group, but for one with a broken row."""
  path = tmp_path / 'a.parquet'
  names = [b'r%d' % i if i != 11 else b'caf\xe9' for i in range(30)]
  table = pa.table({
    'name': pa.array(names).view(pa.string()),
    'more': [[i, i + 1] for i in range(30)],
  })  # fmt: skip
  pq.write_table(table, path, row_group_size=8)

  def told(order):
    rows = tables.Table([path])
    found = {}
    for index in order:
      try:
        found[index] = rows[index]
        rows[index].clear()  # nobody else has it
      except RowError as error:
        found[index] = error.reason
    return found

  in_order = told(range(30))
  assert in_order == {
    i: {'name': f'r{i}', 'more': [i, i + 1]} if i != 11 else 'not UTF-8'
    for i in range(30)
  }
  shuffled = np.random.default_rng(0).permutation(30).tolist()
  assert told(shuffled) == told([*range(9), 3, 4, 5, *range(30)]) == in_order


def test_a_worker_is_sent_the_names_of_the_files(tmp_path):
  rows = noise(50, 10_000)
  sources.write(tmp_path / 'a.parquet', rows)
  source = sources.read(tmp_path / 'a.parquet')
  source[3]
  sent = pickle.dumps(source)
  assert len(sent) < 1000
  assert pickle.loads(sent)[49] == rows[49]


def test_many_threads_read_one_source(tmp_path):
  rows = noise(600)
  sources.write(tmp_path / 'a.parquet', rows)
  source = sources.read(tmp_path / 'a.parquet')
  order = np.random.default_rng(1).integers(0, 600, 2000)
  with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda i: source[int(i)], order))
  assert found == [rows[i] for i in order]


def test_a_digest_names_the_content_not_the_file(tmp_path):
  rows = noise(60)
  sources.write(tmp_path / 'a.parquet', rows)
  sources.write(tmp_path / 'b', rows, shard_bytes=10_000)
  name = sources.digest(tmp_path / 'a.parquet')
  assert name == sources.digest(tmp_path / 'b')
  rows[30] = example(30, b'another picture')
  sources.write(tmp_path / 'a.parquet', rows)
  assert name != sources.digest(tmp_path / 'a.parquet')


def test_a_file_from_before_the_newer_columns_is_read(tmp_path):
  rows = noise(9)
  sources.write(tmp_path / 'a.parquet', rows)
  table = pq.read_table(tmp_path / 'a.parquet')
  old = ['id', 'image', 'turns', 'answers', 'spans']
  pq.write_table(table.select(old), tmp_path / 'old.parquet')
  assert list(sources.read(tmp_path / 'old.parquet')) == rows


def test_a_digest_is_of_all_that_is_known(tmp_path):
  names = set()
  for known in ({}, {'annotator': 'a'}, {'facts': ('a',)}, {'extra': {'a': 1}}):
    row = dataclasses.replace(example(1), **known)
    sources.write(tmp_path / 'a.parquet', [row])
    assert list(sources.read(tmp_path / 'a.parquet')) == [row]
    names.add(sources.digest(tmp_path / 'a.parquet'))
  assert len(names) == 4


def test_a_path_alone_is_our_own_parquet(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  sources.write('a.parquet', noise(3))
  for spec in ('a.parquet', f'{tmp_path}/a.parquet', 'examples:a.parquet'):
    assert list(sources.open(spec)) == noise(3)
  assert sources.split('gs://bucket/a') == ('examples', 'gs://bucket/a')
  assert sources.split('trl:gs://bucket/a') == ('trl', 'gs://bucket/a')
