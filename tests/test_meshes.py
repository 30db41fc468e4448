"""Chips by name: slices, the mesh they choose, what a compiler is told."""

import pytest

from rlhfv_jax import meshes, options


def test_a_slice_has_two_names():
  assert meshes.find('v5e:8x8') == meshes.find('v5e-64')
  assert meshes.find('v4-32')[1].chips == 16  # named by cores
  assert meshes.find('v5p-16')[1].topology == 'v5p:2x2x2'


@pytest.mark.parametrize(
  'name, says',
  [
    ('v5e:3x7', 'no v5e comes as 3x7: there are v5e:1x1, v5e:2x2'),
    ('v5e-63', 'no topology .v5e-63.; it may be: v5e-'),
    ('tpu', 'it may be'),
  ],
)
def test_a_topology_that_does_not_exist_is_told_which_do(name, says):
  with pytest.raises(ValueError, match=says):
    meshes.find(name)


def test_chips_of_a_config_string_choose_its_mesh():
  assert options.load('configs/ddpo.py:llava15_7b,v5e-64').mesh == (1, -1, 1)
  assert options.load('configs/sft.py:llava15_7b,2xv5p-128').mesh == (2, -1, 1)
  with pytest.raises(ValueError, match='and chips like v5e-16'):
    options.load('configs/ddpo.py:v5e-17')


def test_what_the_compiler_is_told_follows_from_the_chip():
  assert meshes.options('cpu') == {}
  assert 'xla_enable_async_all_gather' not in meshes.options('TPU v5 lite')
  assert 'xla_enable_async_all_gather' in meshes.options('TPU v5')
  assert meshes.options('NVIDIA H200') == meshes.options('NVIDIA H100 80GB')
