"""Pictures made square: to the bit as the processors of released models."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images import encoded, noise
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil

from rlhfv_jax.data import images


def processed(file: bytes, size: int, policy: str) -> np.ndarray:
  """What transformers makes of a file, before it becomes floats."""
  options = {'do_rescale': False, 'do_normalize': False}
  if policy == 'squash':
    options |= {
      'size': {'height': size, 'width': size},
      'do_center_crop': False,
    }
  else:
    options |= {
      'size': {'shortest_edge': size},
      'crop_size': {'height': size, 'width': size},
      'do_pad': policy == 'pad',
    }
  maker = CLIPImageProcessorPil if policy == 'crop' else LlavaImageProcessorPil
  found = maker(**options)(Image.open(io.BytesIO(file)), return_tensors='np')
  return found['pixel_values'][0].transpose(1, 2, 0)


@settings(max_examples=150, deadline=None)
@given(
  policy=st.sampled_from(sorted(images.POLICIES)),
  width=st.integers(1, 90),
  height=st.integers(1, 90),
  size=st.integers(1, 60),
)
def test_a_policy_is_the_processors_to_the_bit(policy, width, height, size):
  file = encoded(noise(width, height))
  np.testing.assert_array_equal(
    images.load(file, size, policy=policy), processed(file, size, policy)
  )


@settings(max_examples=150, deadline=None)
@given(
  scale=st.tuples(st.integers(1, 12), st.integers(1, 12)),
  sides=st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True),
  wide=st.booleans(),
)
def test_so_it_is_where_only_the_middle_is_scaled(scale, sides, wide):
  """Sizes that keep the edges of the cut on whole and half pixels."""
  (of, to), (short, long) = scale, sorted(sides)
  shape = (of * long, of * short) if wide else (of * short, of * long)
  file = encoded(noise(*shape))
  np.testing.assert_array_equal(
    images.load(file, to * short, policy='crop'),
    processed(file, to * short, 'crop'),
  )


@pytest.mark.parametrize('size', [224, 336, 448])
@pytest.mark.parametrize(
  'shape', [(640, 480), (427, 640), (500, 333), (96, 96)]
)
@pytest.mark.parametrize('policy', sorted(images.POLICIES))
def test_so_it_is_for_photographs(policy, shape, size):
  file = encoded(noise(*shape), 'JPEG')
  np.testing.assert_array_equal(
    images.load(file, size, policy=policy), processed(file, size, policy)
  )


# What Pillow writes of each kind.
MODES = {
  'JPEG': ('RGB', 'L', 'CMYK', '1'),
  'PNG': ('RGB', 'L', 'P', '1'),
  'BMP': ('RGB', 'L', 'P', '1'),
  'TIFF': ('RGB', 'L', 'P', '1', 'CMYK'),
  'WEBP': ('RGB', 'L', 'P', 'CMYK'),
  'GIF': ('RGB', 'L', 'P', '1'),
}


@pytest.mark.parametrize('policy', sorted(images.POLICIES))
@pytest.mark.parametrize(
  'kind, mode', [(kind, mode) for kind in MODES for mode in MODES[kind]]
)
def test_so_it_is_for_all_kinds_of_files(policy, kind, mode):
  file = encoded(noise(40, 30, mode), kind)
  np.testing.assert_array_equal(
    images.load(file, 24, policy=policy), processed(file, 24, policy)
  )


@pytest.mark.parametrize('size', [448, 672])
def test_squash_is_muffins_transform(size):
  """Resize and ToTensor, with torchvision where it is, on uint8."""
  transforms = pytest.importorskip('torchvision.transforms')
  bicubic = transforms.InterpolationMode.BICUBIC
  muffin = transforms.Compose(
    [
      transforms.Resize((size, size), interpolation=bicubic),
      transforms.PILToTensor(),
    ]
  )
  for shape in ((640, 480), (427, 640), (30, 800)):
    file = encoded(noise(*shape), 'JPEG')
    expected = muffin(Image.open(io.BytesIO(file)).convert('RGB'))
    np.testing.assert_array_equal(
      images.load(file, size), expected.numpy().transpose(1, 2, 0)
    )


def test_a_picture_has_everything_in_its_place_under_each_policy():
  """A red frame around white: squash and pad keep it, crop cuts its sides."""
  picture = Image.new('RGB', (60, 30), 'red')
  picture.paste('white', (3, 3, 57, 27))
  squashed, padded, cropped = (
    images.load(encoded(picture), 30, policy=policy)
    for policy in ('squash', 'pad', 'crop')
  )
  red, mean = [255, 0, 0], list(images.CLIP_MEAN)
  assert squashed[15, 0].tolist() == squashed[0, 15].tolist() == red
  assert padded[0, 15].tolist() == padded[-1, 15].tolist() == mean
  assert padded[15, 0].tolist() == padded[15, -1].tolist() == red
  assert cropped[0, 15].tolist() == red
  assert cropped[15, 0].tolist() == [255] * 3
