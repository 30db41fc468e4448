"""What is alike is what comparing all finds, and what is held out is known."""

import base64
import io
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from plants import WORLD, encoded, pairs

from rlhfv_jax import doctor
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.doctor import alike, overlap
from rlhfv_jax.doctor.pictures import ALIKE_BITS, fingerprint
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.picture import draw


@pytest.fixture(scope='module')
def clean():
  return pairs(120)


def _runs(text: str) -> set[tuple]:
  words = re.findall(r'\w+', text.casefold())
  return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def test_near_texts_are_those_that_comparing_all_finds(clean):
  rng = random.Random(0)
  texts = []
  for pair in clean:
    told = ' '.join(clean[rng.randrange(120)].answers[0] for _ in range(4))
    words = f'{pair.answers[0]} {told}'.split()
    texts.append(' '.join(words))
    words[rng.choice([0, -1])] = 'something'
    texts += [' '.join(words), ' '.join(words[: len(words) * 4 // 5])]
  signatures = np.stack([alike.signature(text) for text in texts])
  found = {tuple(pair) for pair in alike.texts(signatures).tolist()}
  runs = [_runs(text) for text in texts]
  real = {
    (i, j): len(runs[i] & runs[j]) / len(runs[i] | runs[j])
    for j in range(len(texts))
    for i in range(j)
  }
  sure = {pair for pair, likeness in real.items() if likeness > 0.96}
  assert len(sure) > 50 and sure <= found
  assert all(real[pair] > 0.8 for pair in found)


def test_near_fingerprints_are_those_that_comparing_all_finds():
  rng = np.random.default_rng(0)
  bits = rng.integers(0, 2, (60, 256), np.uint8)
  near = bits.copy()
  for row in near:
    row[rng.choice(256, rng.integers(0, ALIKE_BITS + 15), replace=False)] ^= 1
  both = np.concatenate([bits, near])
  marks = [np.packbits(row).tobytes() for row in both]
  found = alike.pictures(marks, within=ALIKE_BITS)
  apart = (both[:, None] != both[None]).sum(axis=-1)
  real = np.argwhere(np.triu(apart <= ALIKE_BITS, 1))
  assert len(real) > 20
  np.testing.assert_array_equal(found, real)


def test_a_crowd_of_equals_is_one_group():
  crowd = np.tile(alike.signature('there is a red cup.'), (1000, 1))
  pairs_ = alike.texts(crowd)
  assert len(pairs_) < 1000 * 32
  assert (alike.groups(pairs_, 1000) == 0).all()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_what_pairs_connect(drawn):
  found = alike.groups(np.array(drawn, np.int64).reshape(-1, 2), 20)
  sets = [{i} for i in range(20)]
  for a, b in drawn:
    joined = sets[a] | sets[b]
    for i in joined:
      sets[i] = joined
  assert found.tolist() == [min(s) for s in sets]


def test_a_picture_keeps_its_look_when_stored_anew():
  scenes = list(dataset.scenes(WORLD, 'train', 40))
  marks = [fingerprint(draw(scene)) for scene in scenes]
  marks = np.stack([np.frombuffer(mark, np.uint8) for mark in marks])
  for quality in (95, 60):
    again = [
      fingerprint(Image.open(io.BytesIO(
        encoded(draw(scene), 'JPEG', quality=quality))))
      for scene in scenes
    ]  # fmt: skip
    again = np.stack([np.frombuffer(mark, np.uint8) for mark in again])
    apart = np.bitwise_count(marks[:, None] ^ again[None]).sum(axis=-1)
    own = np.diagonal(apart)
    assert own.max() <= ALIKE_BITS
    assert (apart + 999 * np.eye(40)).min() > ALIKE_BITS
  assert fingerprint(Image.new('RGB', (50, 50), 'red')) is None


# ---- what it is measured on later


@pytest.mark.parametrize(
  'name, text',
  [
    (
      'list.txt',
      'COCO_val2014_000000000042.jpg\nCOCO_val2014_000000000043.jpg',
    ),
    ('ids.txt', '42\n43\n'),
    ('ids.csv', '"42","a cup"\n'),
    ('vqa.json', '{"questions": [{"image_id": 42, "question": "?"}]}'),
    (
      'instances.json',
      '{"images": [{"id": 42, "file_name": "000000000042.jpg"}]}',
    ),
    ('pope.json', '{"image": "COCO_val2014_000000000042.jpg"}\n{"image": "y"}'),
    ('hal.jsonl', '{"image_id": 42}\n\n{"image_id": 43}\n'),
  ],
)
def test_a_coco_picture_is_known_in_every_writing(name, text, tmp_path):
  (tmp_path / name).write_text(text)
  held = overlap.read([tmp_path / name])
  for path in (
    'coco/train2017/000000000042.jpg',
    'COCO_train2014_000000000042.jpg',
    'https://images.example/val2014/COCO_val2014_000000000042.jpg?size=8',
    'a\\b\\000000000042.png',
  ):
    example = Example('x', None, (), image_path=path)
    assert held.names.keys() & overlap.names(example) == {'42'}, path
    assert overlap.names(replace(example, id=path, image_path='')) == {'42'}
  for path in ('42.jpg', '000000000142.jpg', '1000000000042.jpg', ''):
    example = Example('42', None, (), image_path=path)
    assert not held.names.keys() & overlap.names(example), path


def test_other_names_are_known_as_they_are(tmp_path):
  mmhal = [{'image_id': '8BB2bbd2d1ee6d1f', 'image_src': 'https://x/53_o.jpg'}]
  (tmp_path / 'mmhal.json').write_text(json.dumps(mmhal))
  held = overlap.read([tmp_path / 'mmhal.json'])
  for path in ('openimages/8bb2bbd2d1ee6d1f.jpg', 'flickr/53_O.png'):
    example = Example('x', None, (), image_path=path)
    assert held.names.keys() & overlap.names(example), path


def test_pictures_in_benchmark_files_and_sources_are_known(clean, tmp_path):
  data = base64.b64encode(clean[0].image).decode()
  (tmp_path / 'hal.jsonl').write_text(json.dumps({'image': data}))
  sources.write(tmp_path / 'dev.parquet', clean[1:2])
  held = [tmp_path / 'hal.jsonl', tmp_path / 'dev.parquet']
  report = doctor.check(clean[:3], out=tmp_path / 'x.html', against=held)
  (problem,) = report.problems
  assert [(c.index, c.detail.split()[-1]) for c in problem.cases] == [
    (0, 'hal.jsonl'), (1, 'dev.parquet'),
  ]  # fmt: skip


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('none.json', None, 'no such file'),
    ('other.json', '{"answer": "a cup"}', 'names no picture'),
    ('cut.jsonl', '{"image": "a.jpg"}\n{"image": "b', 'line 2: not JSON'),
    ('latin.txt', 'caf\xe9'.encode('latin1'), 'not UTF-8'),
  ],
)
def test_a_file_that_cannot_be_held_against_is_named(
  name, text, message, tmp_path
):
  if text is not None:
    (tmp_path / name).write_bytes(getattr(text, 'encode', lambda: text)())
  with pytest.raises(ValueError, match=message) as error:
    overlap.read([tmp_path / name])
  assert str(tmp_path / name) in str(error.value)
