"""TFDS data sets, built without TensorFlow and read like any other source."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rlhfv_jax.data import chat, images, pipeline, plan, rows, sources
from rlhfv_jax.data.builders import features
from rlhfv_jax.data.builders.playroom import playroom_dataset_builder
from rlhfv_jax.data.builders.rlhfv import rlhfv_dataset_builder
from rlhfv_jax.data.builders.vqav2 import vqav2_dataset_builder
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example
from rlhfv_jax.playroom import language


def encoded(i: int, kind: str) -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (5, 4), (i, 0, 0)).save(file, kind)
  return file.getvalue()


SPANS = (((2, 5, 'object'),), ((0, 1, None), (2, 5, 'x')))


def pairs(n: int) -> list[Example]:
  kinds = ('PNG', 'JPEG', 'WEBP')
  return [
    Example(
      id=f'{i}',
      image=encoded(i, kinds[i % 3]),
      turns=(('user', f'what? é {i}'),),
      answers=(f'a cup {i}', f'a cap {i}'),
      spans=None if i % 2 else SPANS,
      image_path=f'{i}.x',
      origin='here',
      facts=('one', 'two')[: i % 3],
      extra={'n': [i, None], 'x': {'y': 'é'}},
    )
    for i in range(n)
  ]  # fmt: skip


def build(builder, data_dir, **options) -> str:
  """What `tfds build` does, in this process."""
  made = builder.Builder(
    data_dir=str(data_dir), file_format='array_record', **options
  )
  config = tfds.download.DownloadConfig(
    manual_dir=str(data_dir.parent / 'manual')
  )
  made.download_and_prepare(download_config=config)
  return str(made.data_path)


def without_tensorflow(folder) -> bool:
  assert 'tensorflow' not in sys.modules
  return all('tfrecord' not in name for name in os.listdir(folder))


def test_rlhfv(tmp_path):
  examples = [dataclasses.replace(e, spans=None, facts=()) for e in pairs(7)]
  manual = tmp_path / 'manual'
  manual.mkdir()
  sources.module('rlhfv').write(manual / 'RLHF-V-Dataset.parquet', examples)
  folder = build(rlhfv_dataset_builder, tmp_path / 'tfds')
  assert without_tensorflow(folder)
  assert any('array_record' in name for name in os.listdir(folder))
  source = sources.open(f'tfds:{folder}')
  assert list(source) == list(sources.open(f'rlhfv:{manual}'))
  # The encoded bytes are those of the original, of whatever kind.
  assert [e.image for e in source] == [e.image for e in examples]
  assert list(sources.open(f'tfds:{tmp_path}/tfds')) == list(source)


def test_vqav2(tmp_path):
  manual = tmp_path / 'manual'
  (manual / 'val2014').mkdir(parents=True)
  questions = [
    {'image_id': 7, 'question': f'is it {k}?', 'question_id': k}
    for k in range(3)
  ]
  answers = [
    {
      'multiple_choice_answer': 'yes',
      'answers': [{'answer': 'yes'}] * 10,
      'question_type': 'is it',
      'answer_type': 'yes/no',
      'question_id': k,
    }
    for k in range(3)
  ]
  (manual / 'v2_OpenEnded_mscoco_val2014_questions.json').write_text(
    json.dumps({'questions': questions})
  )
  (manual / 'v2_mscoco_val2014_annotations.json').write_text(
    json.dumps({'annotations': answers})
  )
  name = f'COCO_val2014_{7:012d}.jpg'
  (manual / 'val2014' / name).write_bytes(encoded(7, 'JPEG'))
  folder = build(vqav2_dataset_builder, tmp_path / 'tfds', config='rounds')
  assert without_tensorflow(folder)
  (only,) = sources.open(f'tfds:{folder}?split=val')
  assert [only] == list(sources.open(f'vqav2:{manual}?split=val&task=rounds'))
  with pytest.raises(ValueError, match="no split 'train', there are val"):
    sources.open(f'tfds:{folder}')


@pytest.fixture(scope='module')
def playroom(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    scenes = {'train': 24, 'dev': 6}
    patch.setattr(playroom_dataset_builder, 'SCENES', scenes)
    data_dir = tmp_path_factory.mktemp('playroom') / 'tfds'
    return build(playroom_dataset_builder, data_dir, config='pairs')


def test_playroom(playroom):
  for split, n in (('train', 24), ('dev', 6)):
    built = list(sources.open(f'tfds:{playroom}?split={split}'))
    assert built == list(sources.open(f'playroom:{split}/pairs/{n}'))


def test_its_card_says_what_it_is(playroom):
  info = tfds.builder_from_directory(playroom).info
  assert 'noisy* caption' in info.description and 'rlhfv' in info.citation
  assert 'Licence' in info.description


@pytest.mark.parametrize(
  'builder, said',
  [
    (rlhfv_dataset_builder, 'CC BY-NC 4.0'),
    (vqav2_dataset_builder, 'CC BY 4.0'),
  ],
)
def test_what_others_made_says_whose_it_is(builder, said, tmp_path):
  info = builder.Builder(data_dir=str(tmp_path)).info
  for what in ('**Made by**', '**Licence**', '**Known limits**', said):
    assert what in info.description
  assert info.citation.startswith('@') and info.homepage.startswith('https://')


@pytest.mark.parametrize('workers', [0, 2])
def test_grain_reads_it_like_any_other_source(playroom, workers):
  """The same batches from TFDS and from the playroom itself."""

  def batches(source, workers):
    tokenizer = chat.word_tokenizer(language.vocabulary())
    read = encode_all(
      source, tokenizer, chat.template('playroom'), image_tokens=4
    )
    assert read.kept == 24
    buckets, _ = plan.choose_buckets(
      rows.lengths(read), 2, prompts=rows.prompts(read)
    )
    pictures = images.Pictures(source, 32)
    return pipeline.batches(
      read, pictures, seed=3, buckets=buckets, batch=8, epochs=2,
      workers=workers,
    )  # fmt: skip

  built = batches(sources.open(f'tfds:{playroom}'), workers)
  drawn = batches(sources.open('playroom:train/pairs/24'), 0)
  with contextlib.closing(built), contextlib.closing(drawn):
    for (bucket, mine), (same, theirs) in zip(built, drawn, strict=True):
      assert bucket == same
      for name in theirs:
        np.testing.assert_array_equal(mine[name], theirs[name])


def test_what_a_worker_is_sent_is_the_folder(playroom):
  source = sources.open(f'tfds:{playroom}')
  sent = pickle.dumps(source)
  assert len(sent) < 1000 and pickle.loads(sent)[5] == source[5]


class Foreign(tfds.core.GeneratorBasedBuilder):
  """Somebody else's data, with columns of its own."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, 3)),
          'q': tfds.features.Text(),
          'answer': tfds.features.Text(),
          'label': tfds.features.ClassLabel(num_classes=3),
          'boxes': tfds.features.Sequence(np.float32),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {'test': self._generate_examples()}

  def _generate_examples(self):
    for i in range(4):
      yield i, {
        'image': io.BytesIO(encoded(i, 'PNG')), 'q': f'q{i}?',
        'answer': f'a{i}', 'label': i % 3, 'boxes': [0.5] * i,
      }  # fmt: skip


def test_any_builder_by_its_columns(tmp_path):
  made = Foreign(data_dir=str(tmp_path), file_format='array_record')
  made.download_and_prepare()
  spec = f'tfds:{tmp_path}?split=test'
  rows_ = {e.answers[0]: e for e in sources.open(spec + '&question=q')}
  assert sorted(rows_) == ['a0', 'a1', 'a2', 'a3']
  one = rows_['a2']
  assert one.turns == (('user', 'q2?'),)
  assert one.image == encoded(2, 'PNG')
  assert one.extra == {'label': 2, 'boxes': [0.5, 0.5]}
  captions = sources.open(spec + '&ask=Describe it.')
  assert {e.turns for e in captions} == {(('user', 'Describe it.'),)}
  with pytest.raises(ValueError, match='columns are .*label.*question=COLUMN'):
    sources.open(spec)
  with pytest.raises(ValueError, match='which one is not nope'):
    sources.open(spec + '&question=nope')
  with pytest.raises(ValueError, match='no data set of TFDS is there'):
    sources.open('tfds:no_such_data_set')


def test_features_hold_every_example(tmp_path):
  class Ours(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=features.features(), disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      yield from enumerate(map(features.to_row, pairs(9)))

  made = Ours(data_dir=str(tmp_path), file_format='array_record')
  made.download_and_prepare()
  found = list(sources.open(f'tfds:{made.data_path}'))
  assert found == pairs(9)


@pytest.mark.slow
def test_the_command_builds_what_tfds_build_would(tmp_path):
  """In a process of its own, with the flags of `tfds build`."""
  done = subprocess.run(
    [sys.executable, '-m', 'rlhfv_jax.data.builders', 'playroom',
     f'--data_dir={tmp_path}', '--config=looks', '--max_examples_per_split=3'],
    capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  source = sources.open(f'tfds:{tmp_path}?split=unseen')
  assert list(source) == list(sources.open('playroom:unseen/looks/3'))
