"""Augmentations do what their names say, with the original's numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlhfv_jax.data import augment, images, views

SHAPES = st.tuples(st.integers(1, 700), st.integers(1, 700))


@settings(max_examples=300, deadline=None)
@given(SHAPES, st.text(max_size=5), st.sampled_from([0.08, 0.5, 0.99]))
def test_a_crop_lies_in_its_picture(shape, name, least):
  left, top, right, bottom = augment.crop_box(
    *shape, roll=views.roll(name), scale=(least, 1.0)
  )
  assert 0 <= left < right <= shape[0] and 0 <= top < bottom <= shape[1]


def kept(width: int, height: int, least: float) -> np.ndarray:
  """Shares of the picture that crops keep."""
  boxes = np.array([
    augment.crop_box(width, height, roll=views.roll(str(i)),
                     scale=(least, 1.0))
    for i in range(2000)
  ])  # fmt: skip
  sides = boxes[:, 2:] - boxes[:, :2]
  return sides.prod(1) / (width * height)


@pytest.mark.parametrize(
  'shape, share', [((640, 427), 0.889), ((640, 360), 0.75), ((360, 640), 0.75)]
)
def test_hardly_cropping_still_cuts_the_sides_of_a_wide_picture(shape, share):
  """Measured on the original with a scale of at least 0.99."""
  found = kept(*shape, 0.99)
  assert abs(found - share).max() < 5e-3


def test_hardly_cropping_keeps_a_picture_of_four_to_three():
  for shape in ((640, 480), (500, 500)):
    assert kept(*shape, 0.99).min() > 0.98


def test_cropping_by_half_keeps_about_two_thirds():
  """Measured on the original: 60 to 69 percent in the mean."""
  for shape in ((640, 480), (640, 427), (480, 640)):
    assert 0.6 < kept(*shape, 0.5).mean() < 0.69


def test_a_crop_falls_everywhere():
  boxes = np.array([
    augment.crop_box(640, 480, roll=views.roll(str(i))) for i in range(2000)
  ])  # fmt: skip
  room = (640, 480) - (boxes[:, 2:] - boxes[:, :2])
  place = (boxes[:, :2] / np.maximum(room, 1))[(room > 40).all(1)]
  low, high = np.quantile(place, [0.1, 0.9], axis=0)
  np.testing.assert_allclose(low, 0.1, atol=0.05)
  np.testing.assert_allclose(high, 0.9, atol=0.05)


def looks(picture, name, n=200, size=24):
  return np.stack([
    np.asarray(augment.AUGMENTATIONS[name](
      picture, size, fit=images.squash, roll=views.roll(str(i))
    ))
    for i in range(n)
  ]).astype(int)  # fmt: skip


def test_trusted_changes_no_fact():
  """Where, how large and of which colour things are stays as it was."""
  picture = Image.new('RGB', (96, 96), (120, 120, 120))
  picture.paste((200, 40, 40), (12, 12, 44, 60))
  found = looks(picture, 'trusted')
  red = found[..., 0] > found[..., 1] + 60
  plain = np.asarray(images.squash(picture, 24)).astype(int)
  assert (red == (plain[..., 0] > plain[..., 1] + 60)).all()
  # Green and blue of what is red, and all three of what is grey, stay alike.
  assert (found[..., 1] == found[..., 2]).all()
  assert (np.ptp(found[:, 20:], axis=-1) == 0).all()
  assert len(np.unique(found.reshape(len(found), -1), axis=0)) > 150


def test_untrusted_turns_left_to_right_and_cuts_things_off():
  picture = Image.new('RGB', (96, 96), 'black')
  picture.paste('red', (0, 0, 8, 96))
  red = looks(picture, 'untrusted')[..., 0] > 90
  left, right = red[:, 8:16, :8].any((1, 2)), red[:, 8:16, -8:].any((1, 2))
  assert 0.1 < (left & ~right).mean() < 0.6
  assert 0.1 < (right & ~left).mean() < 0.6
  assert 0.1 < (~left & ~right).mean() < 0.8


def test_rand_augment_does_two_of_ten_every_second_time():
  """One of the ten changes nothing, so 0.55 of 0.55 stay as they were."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(60, 190, (40, 40, 3), np.uint8)
  picture = Image.fromarray(pixels)
  same = np.mean([
    augment.rand_augment(picture, roll=views.roll(str(i))) == picture
    for i in range(2000)
  ])  # fmt: skip
  assert abs(same - 0.55**2) < 0.035


def test_rand_augment_moves_by_seven_pixels_and_fills_with_grey():
  picture = Image.new('RGB', (40, 40), 'red')
  picture.paste('blue', (10, 10, 30, 30))
  moved = augment._OPERATIONS[7](picture, 0.7, 1)
  row = [moved.getpixel((x, 20)) for x in range(40)]
  red, blue = (255, 0, 0), (0, 0, 255)
  assert row == [red] * 3 + [blue] * 20 + [red] * 10 + [augment.GREY] * 7


@pytest.mark.parametrize('number', range(10))
@pytest.mark.parametrize('shape', [(1, 1), (3, 200), (448, 448)])
def test_every_operation_keeps_the_shape(number, shape):
  picture = Image.effect_noise(shape, 60).convert('RGB')
  for sign in (1, -1):
    found = augment._OPERATIONS[number](picture, 0.7, sign)
    assert (found.size, found.mode) == (shape, 'RGB')
