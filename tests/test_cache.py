"""Rows are encoded once, whoever asks, and again when something has changed."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from test_chat import TOKENIZERS
from test_formats_jsonl import png

from rlhfv_jax.data import cache, chat, encode, parallel, rows, sources
from rlhfv_jax.data.example import Example

TEMPLATE = chat.template('vicuna_v1')
OPTIONS = {'image_tokens': 3, 'diff': 'exact'}
TOKENIZER = TOKENIZERS['bytes']


def examples(n: int = 9) -> list[Example]:
  return [
    Example(f'{i}', png(i), (('user', f'what is {i}?'),),
            (f'a red cup {i}.', f'a blue cup {i}.' if i - 5 else 'a <image>'))
    for i in range(n)
  ]  # fmt: skip


def same(a: rows.Rows, b: rows.Rows) -> bool:
  for field in dataclasses.fields(rows.Rows):
    mine, theirs = getattr(a, field.name), getattr(b, field.name)
    if isinstance(theirs, np.ndarray):
      assert mine.dtype == theirs.dtype
      np.testing.assert_array_equal(mine, theirs)
    else:
      assert mine == theirs
  return True


@pytest.fixture
def source(tmp_path):
  sources.module('jsonl').write(tmp_path / 'data', examples())
  return sources.open(f'jsonl:{tmp_path}/data')


def entries(folder) -> list[str]:
  return sorted(os.listdir(folder))


def test_the_rows_are_those_of_encoding(tmp_path, source):
  told = encode.encode_all(source, TOKENIZER, TEMPLATE, **OPTIONS)
  assert told.kept == 8
  kept = cache.encoded(tmp_path / 'c', source, TOKENIZER, TEMPLATE, **OPTIONS)
  assert same(kept, told)
  shutil.rmtree(tmp_path / 'data/images')  # nobody reads a row again
  again = cache.encoded(tmp_path / 'c', source, TOKENIZER, TEMPLATE, **OPTIONS)
  assert same(again, told) and len(entries(tmp_path / 'c')) == 1
  # The arrays are pages of the file, not memory of this process.
  assert isinstance(again.tokens, np.memmap)


def test_other_buckets_are_the_same_entry(tmp_path, source):
  cache.encoded(tmp_path / 'c', source, TOKENIZER, TEMPLATE, **OPTIONS)
  small = [(400, 4, 2)]
  told = encode.encode_all(
    source, TOKENIZER, TEMPLATE, buckets=small, **OPTIONS
  )
  shutil.rmtree(tmp_path / 'data/images')
  found = cache.encoded(
    tmp_path / 'c', source, TOKENIZER, TEMPLATE, buckets=small, **OPTIONS
  )
  assert same(found, told) and found.reasons['too long'] == 8


def test_what_the_rows_depend_on_names_the_entry(tmp_path, source):
  def name(examples=source, tokenizer=TOKENIZER, template=TEMPLATE, **options):
    return cache.name(examples, tokenizer, template, **(OPTIONS | options))

  other = sources.open(
    f'jsonl:{tmp_path}/data', images=tmp_path / 'data/images'
  )
  names = [
    name(),
    name(image_tokens=4),
    name(diff='muffin'),
    name(suffix='well?'),
    name(tokenizer=TOKENIZERS['words']),
    name(template=chat.template('llava_v1')),
    name(examples=other),
  ]
  assert len(set(names)) == len(names)
  assert name() == name(sources.open(f'jsonl:{tmp_path}/data'))
  file = tmp_path / 'data/rows.jsonl'
  file.write_text(file.read_text().replace('a red cup 3', 'a red cap 3'))
  assert name() not in names


def test_facts_that_say_something_else_are_another_entry(tmp_path):
  """They are told after an answer, where a reward model judges it."""
  Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
  row = {'image': 'a.png', 'conversations': [{'from': 'human', 'value': 'q'}]}
  (tmp_path / 'rows.json').write_text(json.dumps([row]))
  facts = tmp_path / 'image_to_caption.json'

  def name():
    source = sources.open(f'llava:{tmp_path}')
    return cache.name(source, TOKENIZER, TEMPLATE, **OPTIONS)

  facts.write_text('{"a.png": ["a red cup"]}')
  first = name()
  assert first == name()
  facts.write_text('{"a.png": ["a red cap"]}')
  assert name() != first


def test_a_picture_that_is_mended_is_seen(tmp_path, source):
  broken = sorted((tmp_path / 'data/images').iterdir())[0]
  whole = broken.read_bytes()
  broken.write_bytes(whole[:30])

  def read():
    return cache.encoded(tmp_path / 'c', source, TOKENIZER, TEMPLATE, **OPTIONS)

  assert read().reasons == {
    'undecodable picture': 1, 'special token in the text': 1,
  }  # fmt: skip
  assert read().kept == 7
  broken.write_bytes(whole)
  assert read().kept == 8


def test_a_writing_that_was_cut_short_leaves_nothing(tmp_path, source):
  kept = encode.encode_all(source, TOKENIZER, TEMPLATE, **OPTIONS)
  wrong = dataclasses.replace(kept, ids=(object(),))
  with pytest.raises(TypeError):
    cache.save(tmp_path / 'c/entry', wrong)
  assert entries(tmp_path / 'c') == []
  cache.save(tmp_path / 'c/entry', kept)
  cache.save(tmp_path / 'c/entry', kept)  # somebody else was faster
  assert same(cache.load(tmp_path / 'c/entry'), kept)
  (tmp_path / 'c/entry/roles.npy').write_bytes(b'\x93NUMPY')
  with pytest.raises(ValueError, match='c/entry: .* delete the folder'):
    cache.load(tmp_path / 'c/entry')


def test_processes_change_nothing(monkeypatch):
  monkeypatch.setattr(encode, 'BLOCK', 32)
  monkeypatch.setattr(parallel, 'WORTH', 8)
  many = examples(600)
  alone = encode.encode_all(many, TOKENIZER, TEMPLATE, **OPTIONS)
  seen = []
  shared = encode.encode_all(
    many, TOKENIZER, TEMPLATE, processes=2, **OPTIONS,
    suffix=lambda example: f' {example.id}',
    progress=lambda done, total: seen.append((done, total)),
  )  # fmt: skip
  assert seen == [(min(done, 600), 600) for done in range(32, 632, 32)]
  assert shared.rejected == alone.rejected and shared.kept == 599
  assert (shared.sizes[:, 1] > alone.sizes[:, 1])[alone.sizes[:, 0] > 0].all()
  again = encode.encode_all(many, TOKENIZER, TEMPLATE, processes=2, **OPTIONS)
  assert same(again, alone)


def test_examples_in_no_file_are_encoded_anew(tmp_path):
  rows = cache.encoded(
    tmp_path / 'c', examples(), TOKENIZER, TEMPLATE, **OPTIONS
  )
  assert rows.kept == 8 and not (tmp_path / 'c').exists()
