"""Plain JSONL with pictures, wherever it is; and nothing from outside."""

import importlib
import io
import json
import os
import pickle

import pytest
from etils.epath.backend import fsspec_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.formats import jsonl
from rlhfv_jax.data.storage import folders, places


def png(i: int) -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (4, 4), (i, 0, 0)).save(file, 'PNG')
  return file.getvalue()


def put(folder, rows):
  folder.mkdir(parents=True, exist_ok=True)
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  (folder / 'rows.jsonl').write_text('\n'.join(lines) + '\n')
  (folder / 'images').mkdir(exist_ok=True)
  (folder / 'images/a.png').write_bytes(png(1))
  return folder


SHORT = [
  {'image': 'a.png', 'question': 'what?', 'chosen': 'a', 'rejected': 'b'},
  {'image': 'a.png', 'question': 'what?', 'answer': 'a', 'source': 'me'},
  {'question': 'what?'},
  {'turns': [['user', 'x'], ['assistant', 'y'], ['user', 'z']],
   'answers': ['p', 'q'], 'spans': [[[0, 1, 'object']], []]},
]  # fmt: skip


def test_the_short_forms(tmp_path):
  source = sources.open(f'jsonl:{put(tmp_path / "d", SHORT)}')
  pair, lone, asked, chat = pickle.loads(pickle.dumps(source))
  assert pair.answers == ('a', 'b') and pair.image == png(1)
  assert pair.turns == (('user', 'what?'),) and pair.id == '0'
  assert lone.answers == ('a',) and lone.extra == {'source': 'me'}
  assert asked.answers == () and asked.image is None
  assert len(chat.turns) == 3 and chat.spans == (((0, 1, 'object'),), ())


texts = st.text(st.characters(blacklist_categories=['Cs']), max_size=8)
spans = st.lists(
  st.tuples(st.integers(0, 9), st.integers(0, 9), st.none() | texts),
  max_size=2,
).map(tuple)
examples = st.builds(
  Example,
  id=texts,
  image=st.none() | st.integers(0, 3).map(png),
  turns=st.lists(
    st.tuples(st.sampled_from(['user', 'assistant']), texts), min_size=1,
    max_size=3,
  ).map(tuple),
  answers=st.lists(texts.map(lambda t: 'a' + t), max_size=2).map(tuple),
  spans=st.none() | st.lists(spans, min_size=1, max_size=2).map(tuple),
  image_path=st.sampled_from(['', 'x.png', 'deep/x.png', '/root/x', '../x']),
  origin=texts,
  annotator=texts,
  model=texts,
  facts=st.lists(texts, max_size=2).map(tuple),
  extra=st.dictionaries(texts, st.integers() | st.lists(texts), max_size=2),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(examples, min_size=1, max_size=4))
def test_every_field_comes_back(tmp_path_factory, rows):
  out = tmp_path_factory.mktemp('out') / 'data'
  jsonl.write(out, rows)
  assert list(jsonl.read(out)) == rows


@pytest.mark.parametrize(
  'row, says',
  [
    ('{"question": "wh', 'not JSON'),
    ({'image': 'a.png'}, 'no question'),
    ({'question': 'what?', 'chosen': 'a'}, 'half a pair'),
    ({'question': 7}, 'wrong type.*turn 0'),
    ({'turns': [['user']]}, 'wrong type'),
    ({'turns': 3}, 'wrong type'),
    ({'question': 'a?', 'answers': 3}, 'wrong type'),
    ({'question': 'a?', 'spans': [[3]], 'answer': 'b'}, 'wrong type'),
    ({'question': 'a?', 'image': 'gone.png'}, 'no such picture'),
    ({'question': 'a?', 'image': '../rows.jsonl'}, 'outside the folder'),
    ({'question': 'a?', 'image': '/etc/passwd'}, 'outside the folder'),
    ({'question': 'a?', 'image': 7}, 'no such picture|wrong type'),
  ],
)
def test_a_bad_row_names_its_line(tmp_path, row, says):
  folder = put(tmp_path / 'd', [SHORT[0], row, SHORT[0]])
  source = sources.open(f'jsonl:{folder}')
  with pytest.raises(RowError, match=says) as error:
    source[1]
  assert f'{folder}/rows.jsonl, row 1 (line 2)' in str(error.value)
  assert source[2].answers == ('a', 'b')


@pytest.mark.parametrize('image', ['gone.png', '../rows.jsonl', 7, ['']])
def test_a_first_row_without_its_picture_does_not_hide_the_others(
  tmp_path, image
):
  folder = put(tmp_path / 'd', [SHORT[0] | {'image': image}, *SHORT])
  source = sources.open(f'jsonl:{folder}')
  assert source[1].image == png(1)
  with pytest.raises(RowError, match=r'row 0 \(line 1\)'):
    source[0]


def test_a_bucket_is_read_where_it_is(tmp_path, monkeypatch):
  """Through etils; a folder stands for it, behind the interface of gcsfs."""
  fsspec = pytest.importorskip('fsspec')

  class Bucket(fsspec.get_filesystem_class('dir')):
    protocol, cachable = ('gs', 'gcs'), False

    def __init__(self, **options):
      super().__init__(str(tmp_path), fsspec.filesystem('file'))

    @classmethod
    def _strip_protocol(cls, path):
      return str(path).rpartition('://')[2]

  known = importlib.import_module('fsspec.registry')._registry
  for name in Bucket.protocol:
    monkeypatch.setitem(known, name, Bucket)
  monkeypatch.setenv('RLHFV_JAX_CACHE', str(tmp_path / 'cache'))
  put(tmp_path / 'bucket/pairs', SHORT)
  fsspec_backend._get_filesystem.cache_clear()
  try:
    for spec in ('gs://bucket/pairs', 'gs://bucket/pairs/rows.jsonl'):
      source = pickle.loads(pickle.dumps(sources.open(f'jsonl:{spec}')))
      assert len(source) == 4 and source[0].image == png(1)
    put(tmp_path / 'bucket/pairs', SHORT[:2])  # is not taken from a copy
    assert len(sources.open('jsonl:gs://bucket/pairs')) == 2
    sources.module('trl').write(tmp_path / 'bucket/a.parquet', source)
    found = sources.open('trl:gs://bucket/a.parquet')
    assert found[0].image == png(1) and found[0].answers == ('a', 'b')
    with pytest.raises(ValueError, match='gs://bucket/pairs: only jsonl and'):
      sources.open('swift:gs://bucket/pairs')
    with pytest.raises(ValueError, match='gs://bucket/nothing.*cannot be read'):
      sources.open('jsonl:gs://bucket/nothing.jsonl')
  finally:
    fsspec_backend._get_filesystem.cache_clear()


def test_names_may_not_lead_out_of_the_folder(tmp_path):
  (tmp_path / 'secret').write_bytes(b'secret')
  folder = tmp_path / 'images'
  folder.mkdir()
  (folder / 'a').write_bytes(b'a')
  for name in ('../secret', 'x/../../secret', str(tmp_path / 'secret')):
    with pytest.raises(RowError, match='picture outside the folder'):
      folders.picture(folder, name)
  assert folders.picture(folder, 'a') == b'a'
  assert folders.picture(folder, str(folder / 'a')) == b'a'


def test_a_data_set_of_the_hub_is_read_by_its_revision(tmp_path, monkeypatch):
  """The hub's own cache, as its client leaves it, with no network."""
  commit = '0123456789abcdef0123456789abcdef01234567'
  repo = tmp_path / 'datasets--me--pairs'
  put(repo / 'snapshots' / commit, SHORT)
  (repo / 'refs').mkdir()
  (repo / 'refs/main').write_text(commit)
  from huggingface_hub import constants

  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  for revision in (commit, 'main'):
    source = sources.open(f'jsonl:hf://datasets/me/pairs@{revision}')
    assert len(source) == 4 and source[0].image == png(1)
  with pytest.raises(ValueError, match='no revision, so it may be other data'):
    places.here('hf://datasets/me/pairs')
  with pytest.raises(ValueError, match='not to be had from the hub'):
    places.here('hf://datasets/me/others@main')
  with pytest.raises(ValueError, match='OWNER/NAME@REVISION'):
    places.here('hf://me')


def test_a_bucket_that_cannot_be_read_says_why():
  try:
    import gcsfs  # noqa: F401
  except ImportError:
    with pytest.raises(ValueError, match='gs://nowhere/.*gcsfs'):
      sources.open('jsonl:gs://nowhere/rows.jsonl')


def test_links_in_a_folder_are_its_owners(tmp_path):
  """COCO is linked into a folder more often than copied."""
  folder = put(tmp_path / 'd', SHORT[:1])
  os.rename(folder / 'images', tmp_path / 'coco')
  (folder / 'images').symlink_to(tmp_path / 'coco')
  assert sources.open(f'jsonl:{folder}')[0].image == png(1)
