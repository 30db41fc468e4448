"""Evaluation pictures that were in training are found, others are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from rlhfv_jax.benchmarks import leaks
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.picture import draw
from rlhfv_jax.playroom.scene import World


def picture(seed, size=96):
  """Light and shade in large areas, as photographs have them."""
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8))
  return coarse.resize((size, size), Image.Resampling.BICUBIC)


def encoded(image, kind='JPEG', **options):
  with io.BytesIO() as out:
    image.save(out, kind, **options)
    return out.getvalue()


TRAINED = [{'id': f'row{i}', 'image': encoded(picture(i))} for i in range(300)]


def test_copies_are_found_by_file_by_number_and_by_look(tmp_path):
  path = tmp_path / 'COCO_val2014_000000000042.jpg'
  path.write_bytes(encoded(picture(1000)))
  trained = [
    *TRAINED,
    {'id': 'coco', 'image_path': '/far/away/000000000042.jpg'},
  ]
  small = picture(9).resize((64, 64))
  darker = ImageEnhance.Brightness(picture(11)).enhance(0.8)
  asked = [
    {'id': 'same', 'image': encoded(picture(5))},
    {'id': 'number', 'image_path': str(path)},
    {'id': 'again', 'image': encoded(picture(7), 'JPEG', quality=40)},
    {'id': 'scaled', 'image': encoded(small, 'PNG')},
    {'id': 'darker', 'image': encoded(darker)},
    {'id': 'new', 'image': encoded(picture(2000))},
    {'id': 'without'},
    {'id': 'broken', 'image': b'no picture'},
  ]
  assert leaks.leaks(asked, trained) == [
    {'id': 'same', 'trained': 'row5', 'how': 'same file'},
    {'id': 'number', 'trained': 'coco', 'how': 'same COCO number'},
    {'id': 'again', 'trained': 'row7', 'how': 'looks the same'},
    {'id': 'scaled', 'trained': 'row9', 'how': 'looks the same'},
    {'id': 'darker', 'trained': 'row11', 'how': 'looks the same'},
  ]


def test_different_pictures_are_far_apart():
  looks = np.stack([leaks.look(row['image']) for row in TRAINED])
  bits = np.bitwise_count(looks[:, None] ^ looks[None]).sum(-1)
  assert bits[~np.eye(len(looks), dtype=bool)].min() > 3 * leaks.ALIKE


def test_scenes_of_the_playroom_are_told_apart():
  world = World()
  asked, trained = (
    [
      {'id': scene.id, 'image': encoded(draw(scene), 'PNG')}
      for scene in dataset.scenes(world, split, n)
    ]
    for split, n in (('test', 30), ('train', 100))
  )
  assert leaks.leaks(asked, trained) == []
  assert len(leaks.leaks(asked, [*trained, *asked])) == 30


@pytest.mark.parametrize('colour', ['white', 'black'])
def test_empty_pictures_look_like_nothing(colour):
  blank = {'id': 'blank', 'image': encoded(Image.new('RGB', (64, 64), colour))}
  other = {'id': 'other', 'image': encoded(Image.new('RGB', (65, 64), colour))}
  assert leaks.leaks([blank], [other]) == []
