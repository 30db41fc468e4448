"""The playroom as a source: rows that are drawn when they are asked for."""

import pickle

import pytest

from rlhfv_jax.data import sources
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.scene import World, sample
from rlhfv_jax.playroom.truth import unsupported


@pytest.mark.parametrize(
  'task, rows',
  [
    ('describe', dataset.describe_rows),
    ('questions', dataset.question_rows),
    ('looks', dataset.look_rows),
    ('teacher', dataset.teacher_rows),
  ],
)
def test_rows_are_those_the_base_model_is_trained_on(task, rows):
  source = pickle.loads(pickle.dumps(sources.open(f'playroom:dev/{task}/5')))
  assert len(source) == 5
  for example, row in zip(source, rows(World(), 'dev', 5), strict=True):
    assert example.id == row['id'] and example.image == row['image']
    assert example.turns == tuple(map(tuple, row['turns']))
    assert example.answers == tuple(row['answers'])


def test_pairs_correct_what_the_picture_does_not_support():
  source = sources.open('playroom:train/pairs/40?seed=3&start=7')
  assert len({example.id for example in source}) == len(source) == 40
  for example in source:
    split, seed, number, _ = example.id.split('-')
    scene = sample(World(), split, index=int(number), seed=int(seed))
    chosen, rejected = example.answers
    assert unsupported(scene, rejected) and not unsupported(scene, chosen)
    assert not any(unsupported(scene, fact) for fact in example.facts)
    mended, at = '', 0
    for (s, e, _), (t, u, _) in zip(*example.spans[::-1], strict=True):
      mended += rejected[at:s] + chosen[t:u]
      at = e
    assert mended + rejected[at:] == chosen


@pytest.mark.parametrize('path', ['trian', 'train/drawings', 'train/pairs/x'])
def test_what_is_not_there_says_what_is(path):
  with pytest.raises(ValueError, match='split of train, dev.*task of describe'):
    sources.open(f'playroom:{path}')
