"""Records are found where JSON says they are, and never held in memory."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.data import facts
from rlhfv_jax.data.example import RowError
from rlhfv_jax.data.storage import grouped, records

text = st.text(st.characters(blacklist_categories=['Cs']), max_size=12)
json_value = st.recursive(
  st.none() | st.booleans() | st.integers() | text,
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
  ),
  max_leaves=8,
)
rows_of = st.lists(
  st.dictionaries(text, json_value, max_size=4), min_size=1, max_size=6
)


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  return tmp_path_factory.mktemp('records') / 'rows.json'


@settings(max_examples=150, deadline=None)
@given(rows_of, st.booleans(), st.sampled_from([None, 1]), json_value)
def test_records_are_what_json_says(file, rows, escaped, indent, other):
  """Whatever brackets and quotes stand in the texts."""
  layout = {'ensure_ascii': escaped, 'indent': indent}
  file.write_text(json.dumps(rows, **layout), 'utf-8')
  assert list(records.read(file)) == rows
  under = {'other': other, 'rows': rows, 'more': [other]}
  file.write_text(json.dumps(under, **layout), 'utf-8')
  assert list(records.read(file, 'rows')) == rows
  lines = [json.dumps(row, ensure_ascii=escaped) for row in rows]
  file.write_text('\n\n'.join(lines) + '\n', 'utf-8')
  assert list(records.read(file)) == rows


def test_a_key_deeper_down_is_another_key(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('{"info": {"rows": [{"a": 1}]}, "rows": [{"a": 2}]}')
  assert list(records.read(path, 'rows')) == [{'a': 2}]


def test_what_a_worker_is_sent_is_small(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text(json.dumps([{'text': 'word ' * 999}] * 50))
  found = records.read(path)
  sent = pickle.dumps(found)
  assert len(sent) < 2000
  assert pickle.loads(sent)[49] == found[49]


@pytest.mark.parametrize(
  'content, says',
  [
    ('', 'an empty file'),
    ('hello', "begins with b'h'"),
    ('[]', 'no records'),
    ('[1, 2]', 'no records'),
    ('[{"a": 1}, 2, {"a": 3}]', 'where record 1 should begin'),
    ('[{"a": 1} {"a": 3}]', 'where record 1 should begin'),
    ('[{"a": 1}, {"a": "two', 'cut short after 1 whole records'),
    ('[{"a": 1}, {"a": [1, 2', 'cut short after 1 whole records'),
  ],
)
def test_a_broken_array_is_told_at_once(tmp_path, content, says):
  path = tmp_path / 'a.json'
  path.write_text(content)
  with pytest.raises(ValueError, match=f'{path}: .*{says}'):
    records.read(path)


def test_no_array_under_the_key(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('{"questions": [{"a": 1}]}')
  with pytest.raises(ValueError, match="no array under 'annotations'"):
    records.read(path, 'annotations')


def test_a_broken_line_is_a_row_and_names_itself(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"a": 1}\n\n{"a": \n{"a": "\xff"}\n7\n{"a": 2}')
  found = records.read(path)
  assert found[0] == {'a': 1} and found[4] == {'a': 2}
  for index, says in ((1, 'not JSON'), (2, 'not UTF-8'), (3, 'not an object')):
    with pytest.raises(RowError, match=says):
      found[index]
  lines = {0: 1, 1: 3, 2: 4, 3: 5, 4: 6}
  for index in (2, 4, 0, 1, 1, 3):
    assert found.where(index) == f'{path}, row {index} (line {lines[index]})'


# ---- records that make a row together


def test_a_column_is_read_without_parsing(tmp_path):
  path = tmp_path / 'a.json'
  rows = [{'n': i * 7, 'kind': f'k{i % 2}', 'deep': {'m': i}} for i in range(9)]
  path.write_text(json.dumps({'rows': rows}))
  table = records.read(path, 'rows')
  assert grouped.column(table, 'n').tolist() == [row['n'] for row in rows]
  assert grouped.column(table, 'kind')[3] == b'k1'
  rows[4].pop('n')
  path.write_text(json.dumps({'rows': rows}))
  with pytest.raises(ValueError, match="8 times 'n' in 9 records"):
    grouped.column(records.read(path, 'rows'), 'n')


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 2**40))
def test_groups_are_by_value_in_the_order_of_the_first(values, seed):
  import numpy as np

  values = np.array(values, np.int64)
  kept = np.random.default_rng(seed).random(len(values)) < 0.7
  found = grouped.by(values, kept)
  members = [int(i) for group in found for i in group]
  assert sorted(members) == np.flatnonzero(kept).tolist()
  firsts = [int(group[0]) for group in found]
  assert firsts == sorted(firsts)
  for group in found:
    assert len(set(values[group])) == 1 and group.tolist() == sorted(group)
  assert len({int(values[first]) for first in firsts}) == len(found)


# ---- facts


def test_facts_are_found_by_name(tmp_path):
  path = tmp_path / 'facts.json'
  told = {
    f'{i:012d}.jpg': [f'a "{i}" ] caption', 'é {'] for i in range(300, 0, -7)
  }
  told['aok_x.jpg'] = []
  path.write_text(json.dumps(told, indent=1))
  found = pickle.loads(pickle.dumps(facts.read(path)))
  for name, sentences in told.items():
    assert found(name) == tuple(sentences)
  assert found('000000000002.jpg') == ()
  path.write_text(json.dumps(told)[:-30])
  with pytest.raises(ValueError, match=f'{path}: after .* cut short'):
    facts.read(path)
