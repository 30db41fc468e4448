"""Slices of chips by name: their topology, and how a mesh lies on them.

`--config=...:llava15_13b,v5e-64` trains on one, `preflight --topology=v5e-64`
says beforehand what fits. A topology is libtpu's name of it; v4 and v5p are
named by cores, of which a chip has two.
"""

from __future__ import annotations

import dataclasses
import difflib
import re


@dataclasses.dataclass(frozen=True)
class Chip:
  """What a chip can do, from its vendor's page, and what it must be told."""

  kind: str  # as JAX names it
  tflops: float  # bfloat16, dense, a second
  memory: float  # GiB of HBM
  bandwidth: float  # GB/s of HBM
  links: float  # GB/s to its neighbours, both ways, all links
  clock: float  # GHz
  enough: int  # tokens a chip from which gathered weights hide behind products
  options: tuple[tuple[str, str], ...] = ()


# A gather of weights may be cut into pieces, and the product with them too, so
# that one runs beside the other. That doubles the cycles of these shapes (and
# few tokens a chip invite it): so it is forbidden.
WHOLE = (('xla_jf_spmd_threshold_for_windowed_einsum_mib', '1000000'),)
# Instead whole gathers run beside the products before them, which the chips of
# cubes do not do by themselves.
BESIDE = (
  *WHOLE,
  ('xla_tpu_enable_async_collective_fusion', 'true'),
  ('xla_tpu_enable_async_collective_fusion_fuse_all_gather', 'true'),
  ('xla_tpu_enable_async_collective_fusion_multiple_steps', 'true'),
  ('xla_tpu_overlap_compute_collective_tc', 'true'),
  ('xla_enable_async_all_gather', 'true'),
)
# A GPU hides gathers where the scheduler knows how long they take.
HIDDEN = (('xla_gpu_enable_latency_hiding_scheduler', 'true'),)

CHIPS = {
  'v4': Chip('TPU v4', 275, 32, 1228, 270, 1.05, 1000, BESIDE),
  'v5e': Chip('TPU v5 lite', 197, 15.75, 819, 180, 1.5, 2200, WHOLE),
  'v5p': Chip('TPU v5', 459, 95, 2765, 540, 1.75, 850, BESIDE),
  'v6e': Chip('TPU v6 lite', 918, 31.25, 1640, 360, 1.75, 2600, WHOLE),
  'h100': Chip('NVIDIA H100', 989, 80, 3350, 900, 1.98, 0, HIDDEN),
  'h200': Chip('NVIDIA H200', 989, 140, 4800, 900, 1.98, 0, HIDDEN),
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Some chips and the mesh (data, fsdp, tensor) over them.

  Of several `slices` each holds the whole model: the first axis of the mesh
  runs over them, so that only gradients cross the slower network between.
  """

  chip: str
  topology: str
  chips: int
  mesh: tuple[int, int, int] = (1, -1, 1)
  slices: int = 1


def _tpu(chip: str, sizes: dict[int, str], cores: int = 1) -> dict[str, Slice]:
  def count(text):
    return [int(n) for n in text.split('x')]

  made = {}
  for size, shape in sizes.items():
    chips = 1
    for side in count(shape):
      chips *= side
    assert chips * cores == size, (chip, size, shape)
    made[f'{chip}-{size}'] = Slice(chip, f'{chip}:{shape}', chips)
  return made


FLAT = {1: '1x1', 4: '2x2', 8: '2x4', 16: '4x4', 32: '4x8', 64: '8x8',
        128: '8x16', 256: '16x16'}  # fmt: skip
CUBES = {8: '2x2x1', 16: '2x2x2', 32: '2x2x4', 64: '2x4x4', 128: '4x4x4',
         256: '4x4x8', 512: '4x8x8'}  # fmt: skip

SLICES = {
  **_tpu('v5e', FLAT),
  **_tpu('v6e', FLAT),
  **_tpu('v4', CUBES, cores=2),
  **_tpu('v5p', CUBES, cores=2),
  # Two slices, joined by the data center's network.
  '2xv5e-256': Slice('v5e', 'v5e:16x16', 512, (2, -1, 1), 2),
  '2xv5p-128': Slice('v5p', 'v5p:4x4x4', 128, (2, -1, 1), 2),
  'gpu-1': Slice('h100', '', 1),
  'gpu-8': Slice('h100', '', 8),
  'cpu': Slice('', '', 1),
}


def find(name: str) -> tuple[str, Slice]:
  """A slice by its own name or by that of its topology."""
  if name in SLICES:
    return name, SLICES[name]
  for own, slice_ in SLICES.items():
    if name and slice_.topology == name and slice_.slices == 1:
      return own, slice_
  chip, _, shape = name.partition(':')
  if chip in CHIPS and re.fullmatch(r'\d+(x\d+)*', shape):
    known = [s.topology for s in SLICES.values() if s.chip == chip]
    raise ValueError(
      f'no {chip} comes as {shape}: there are {", ".join(known)}'
    )
  tpus = [n for n, s in SLICES.items() if s.topology]
  near = difflib.get_close_matches(name, tpus, 3, 0.5) or tpus
  raise ValueError(f'no topology {name!r}; it may be: {", ".join(near)}')


def options(kind: str) -> dict[str, str]:
  """What the compiler is told on chips of a kind, as JAX names it."""
  for chip in CHIPS.values():
    if kind == chip.kind or (
      kind.startswith('NVIDIA') and chip.kind.startswith('NVIDIA')
    ):
      return dict(chip.options)
  return {}
