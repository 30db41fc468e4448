"""Pictures looked at once, where the tower stays: its features are kept.

They are what the tower gives, in bfloat16, before the connector, which may be
trained. Beside each file of them stand the names of its pictures, so another
order of rows, batch or bucket keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from rlhfv_jax import files, hosts, scoring, sharding
from rlhfv_jax.data.seen import Seen

NOTHING = 'nothing'  # the name of a row without a picture: it is black


def features(
  model: Any,
  params: Any,
  pictures: Any,
  *,
  names: Sequence[str | None],
  folder: Path,
  fingerprint: Mapping[str, str],
  batch: int,
  mesh: Mesh,
) -> Seen:
  """Looks at what the cache lacks; `pictures[i]` is called `names[i]`."""
  scoring.check_fingerprint(folder, fingerprint)
  names = [name or NOTHING for name in names]
  known = _known(folder)
  first: dict[str, int] = {}
  for i, name in enumerate(names):
    if name not in known:
      first.setdefault(name, i)
  todo = list(first.items())
  look = jax.jit(
    lambda params, images: model.apply(
      {'params': params}, images, method='look'
    ).astype(jnp.bfloat16),
    compiler_options=sharding.compiler(mesh),
  )
  here, number = hosts.rows(batch, mesh), len(_files(folder))
  bar = tqdm(range(0, len(todo), batch), desc='look', unit='batch',
             disable=not todo, dynamic_ncols=True)  # fmt: skip
  for start in bar:
    part = todo[start : start + batch]
    # The last batch is filled with its first picture, which is not kept twice.
    index = np.array([i for _, i in part] + [part[0][1]] * (batch - len(part)))
    images = np.stack([pictures[int(i)] for i in index[here]])
    found = hosts.whole(look(params, sharding.batch_to_devices(images, mesh)))
    _write(folder, number, [name for name, _ in part], np.asarray(found))
    number += 1
  hosts.meet()  # before anybody reads what process 0 has written
  known = _known(folder)
  places = np.array([known[name] for name in names], np.int32)
  c = model.config.vision
  return Seen(_files(folder), places.reshape(-1, 2), (c.tokens, c.width))


def _files(folder: Path) -> list[Path]:
  return sorted(folder.glob('seen-*.npy'))


def _known(folder: Path) -> dict[str, tuple[int, int]]:
  """Name -> file and row."""
  return {
    name: (number, row)
    for number, path in enumerate(_files(folder))
    for row, name in enumerate(files.read_json(path.with_suffix('.json')))
  }


def _write(folder: Path, number: int, names: list[str], found: np.ndarray):
  """The names first: a file of features has them beside it."""
  path = folder / f'seen-{number:05d}.npy'
  files.write_json(path.with_suffix('.json'), names)
  with files.atomic(path) as tmp, open(tmp, 'wb') as f:
    np.save(f, found[: len(names)].view(np.uint16))
