"""Patches of a picture, in the way that suits the chip."""

import jax
import jax.numpy as jnp

from rlhfv_jax import sharding


def of(pixels_BHWC: jax.Array, patch: int) -> jax.Array:
  """Patches row by row, each flat in the order (row, column, channel)."""
  way = cut if sharding.platform() == 'cpu' else picked
  return way(pixels_BHWC, patch)


def cut(pixels: jax.Array, patch: int) -> jax.Array:
  """Patches as a transposition, which a TPU takes long over, compiling too."""
  batch, height, width, channels = pixels.shape
  grid = (batch, height // patch, patch, width // patch, patch, channels)
  x = pixels.reshape(grid).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, -1, patch * patch * channels)


def picked(pixels: jax.Array, patch: int) -> jax.Array:
  """The same as a convolution, one output for each number of a patch."""
  batch, _, _, channels = pixels.shape
  flat = patch * patch * channels
  kernel = jnp.eye(flat, dtype=pixels.dtype)
  x = jax.lax.conv_general_dilated(
    pixels,
    kernel.reshape(patch, patch, channels, flat),
    window_strides=(patch, patch),
    padding='VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST,
  )
  return x.reshape(batch, -1, flat)
