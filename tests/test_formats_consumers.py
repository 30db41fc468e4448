"""What we write, loaded by the loaders of those who read it."""

import io
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_formats_lossless import pair, png

from rlhfv_jax.data import sources

datasets = pytest.importorskip('datasets')

ROWS = [pair(i) for i in range(5)]
QUESTIONS = [example.turns[0][1] for example in ROWS]


@pytest.fixture
def load(tmp_path, monkeypatch):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')

  def loaded(what, **options):
    cache = str(tmp_path / 'cache')
    return datasets.load_dataset(
      what, split='train', cache_dir=cache, **options
    )

  return loaded


def pixels(picture: Image.Image) -> bytes:
  return picture.convert('RGB').tobytes()


def expected(i: int) -> bytes:
  return pixels(Image.open(io.BytesIO(png(i))))


@pytest.mark.parametrize('kind', ['rlhfv', 'rlaifv'])
def test_pictures_are_decoded_and_every_column_is_there(kind, tmp_path, load):
  sources.module(kind).write(tmp_path / 'out', ROWS)
  found = load(str(tmp_path / 'out'))
  assert isinstance(found.features['image'], datasets.Image)
  assert [pixels(row['image']) for row in found] == [
    expected(i) for i in range(5)
  ]
  if kind == 'rlhfv':
    said = [json.loads(text) for text in found['text']]
    assert list(said[0]) == ['question', 'chosen', 'rejected']
  else:
    said = list(found)
  assert [row['question'] for row in said] == QUESTIONS
  assert [(row['chosen'], row['rejected']) for row in said] == [
    example.answers for example in ROWS
  ]
  assert found[1]['chosen_spans'][0] == {
    'start': 2, 'end': 5, 'category': 'attribute'
  }  # fmt: skip
  assert found[1]['facts'] == list(ROWS[1].facts)
  assert found[0]['annotator'] is None and found[1]['annotator'] == 'ann'


def test_unimm_is_a_picture_and_a_conversation_in_json(tmp_path, load):
  rows = [replace(e, answers=e.answers[:1], spans=None) for e in ROWS]
  sources.module('unimm').write(tmp_path / 'out', rows)
  found = load(str(tmp_path / 'out'))
  for i, row in enumerate(found):
    assert pixels(row['image']) == expected(i)
    told = json.loads(row['conversation'])
    assert [m['value'] for m in told] == [QUESTIONS[i], *rows[i].answers]


@pytest.mark.parametrize(
  'kind, name, answers',
  [
    ('llava', 'rows.json', ()),
    ('llava_rlhf', 'rows.json', ('output_1', 'output_2')),
    ('jsonl', 'rows.jsonl', ()),
  ],
)
def test_records_of_one_picture_load_and_name_it(
  kind, name, answers, tmp_path, load
):
  rows = [replace(e, extra={}) for e in ROWS]
  if kind == 'llava':
    rows = [replace(e, answers=e.answers[:1], spans=None) for e in rows]
  sources.module(kind).write(tmp_path / 'out', rows)
  found = load('json', data_files=str(tmp_path / 'out' / name))
  assert len(found) == 5
  for i, row in enumerate(found):
    assert (tmp_path / 'out' / row['image']).read_bytes() == png(i)
    if kind == 'jsonl':
      assert tuple(row['answers']) == rows[i].answers
      continue
    first, last = row['conversations'][0], row['conversations'][-1]
    assert first == {'from': 'human', 'value': f'<image>\n{QUESTIONS[i]}'}
    said = [row[key]['value'] for key in answers] or [last['value']]
    assert tuple(said) == rows[i].answers and last['from'] == 'gpt'


def test_trl_gets_messages_in_parts_with_one_picture(tmp_path, load):
  sources.module('trl').write(tmp_path / 'out', ROWS)
  found = load(str(tmp_path / 'out'))
  for i, row in enumerate(found):
    assert [pixels(image) for image in row['images']] == [expected(i)]
    ((asked,), (chosen,), (rejected,)) = (
      row[name] for name in ('prompt', 'chosen', 'rejected')
    )
    assert [part['type'] for part in asked['content']] == ['image', 'text']
    assert asked['content'][1]['text'] == QUESTIONS[i]
    told = [m['content'][0]['text'] for m in (chosen, rejected)]
    assert tuple(told) == ROWS[i].answers


@pytest.mark.parametrize(
  'kind, name',
  [
    ('llamafactory', 'data.json'),
    ('swift', 'data.jsonl'),
    ('trl', 'rows.jsonl'),
  ],
)
def test_records_load_and_name_their_pictures(kind, name, tmp_path, load):
  out = tmp_path / 'out'
  sources.module(kind).write(out / name if kind == 'trl' else out, ROWS)
  found = load('json', data_files=str(out / name))
  assert len(found) == 5
  for i, row in enumerate(found):
    (image,) = row['images']
    assert (out / image).read_bytes() == png(i)


@pytest.mark.parametrize('kind', ['rlhfv', 'rlaifv', 'trl'])
def test_what_datasets_writes_we_read(kind, tmp_path, load):
  """Its own parquet of our rows: other groups, other types of lists."""
  sources.module(kind).write(tmp_path / 'a', ROWS)
  theirs = tmp_path / 'theirs.parquet'
  load(str(tmp_path / 'a')).to_parquet(str(theirs), batch_size=2)
  ours = list(sources.open(f'{kind}:{tmp_path}/a'))
  for one, other in zip(ours, sources.open(f'{kind}:{theirs}'), strict=True):
    assert (one.image, one.turns, one.answers, one.spans) == (
      other.image,
      other.turns,
      other.answers,
      other.spans,
    )
    assert one.facts == other.facts and one.origin == other.origin


def test_old_readers_of_datasets_know_our_lists(tmp_path):
  """Before version 4 a list was [feature]; since then both are read."""
  sources.module('trl').write(tmp_path / 'a.parquet', ROWS)
  told = pq.read_schema(tmp_path / 'a.parquet').metadata[b'huggingface']
  features = json.loads(told)['info']['features']
  assert features['images'] == [{'_type': 'Image'}]
  assert features['facts'] == [{'dtype': 'string', '_type': 'Value'}]
