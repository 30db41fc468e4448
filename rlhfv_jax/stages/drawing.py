"""Drawing: rows about many pictures, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tqdm import tqdm

from rlhfv_jax.data import parallel
from rlhfv_jax.data.example import Example

AT_ONCE = 64  # pictures that a process draws


def drawn(
  rows: Callable[[range], list[Example]], count: int, *, name: str
) -> Iterator[Example]:
  """The rows of so many pictures, in order, drawn by several processes."""
  bar = tqdm(total=count, desc=f'draw {name}', unit='picture',
             dynamic_ncols=True)  # fmt: skip
  with bar:
    for start, part in parallel.over(rows, count, AT_ONCE, parallel.cores()):
      yield from part
      bar.update(min(AT_ONCE, count - start))
