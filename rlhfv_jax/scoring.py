"""Rows scored once with frozen parameters: the reference of every preference.

The cache holds the log-probs of each path's scored tokens, in float32, without
padding, under a name made of the path's tokens and its picture. So another
bucketing, batch, diff, gamma or beta keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from rlhfv_jax import files, hosts, sharding
from rlhfv_jax.data import plan
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.feed import to_batch
from rlhfv_jax.models import token_logps

SHARD = 32  # batches a shard: what a killed run scores again at most


@jax.jit
def _digest(leaf: jax.Array) -> jax.Array:
  """Two checksums of an array's bits; place counts, sharding does not."""
  bits = jax.lax.bitcast_convert_type(leaf.ravel(), jnp.uint8).ravel()
  bits = bits.astype(jnp.uint32) + jnp.uint32(1)
  place = jnp.arange(bits.size, dtype=jnp.uint32)
  mixed = bits * (place * jnp.uint32(2654435761) + jnp.uint32(40503))
  return jnp.stack([mixed.sum(), (mixed ^ (mixed >> 15)).sum()])


def params_digest(params: Any) -> str:
  """Names parameters by their bits."""
  sums = [_digest(leaf) for leaf in jax.tree.leaves(params)]
  return ''.join(f'{int(x):08x}' for x in np.bitwise_xor.reduce(
    [hosts.whole(s) * np.uint32(2 * i + 1) for i, s in enumerate(sums)]
  ))  # fmt: skip


def differing(path: Path, fingerprint: Mapping[str, Any]) -> str:
  """What is otherwise in the fingerprint kept in a file, in words."""
  found = files.read_json(path)
  return '; '.join(
    f'{k} is {fingerprint.get(k)} here and {found.get(k)} there'
    for k in sorted(found.keys() | fingerprint.keys())
    if found.get(k) != fingerprint.get(k)
  )


def check_fingerprint(folder: Path, fingerprint: Mapping[str, str]) -> None:
  """A cache made by something else is an error that says what differs."""
  path = folder / 'fingerprint.json'
  if path.exists() and (differ := differing(path, fingerprint)):
    raise ValueError(
      f'{folder}: the reference was scored by something else: {differ}. Delete '
      'the folder to score again, or give a workdir of its own to this run'
    )
  files.write_json(path, dict(fingerprint))


def keys(rows: data_rows.Rows, pictures: Callable[[int], str]) -> list[list]:
  """For each row, the name of each of its paths; nothing for a rejected one."""
  names = []
  for i in range(len(rows)):
    one = data_rows.row(rows, i) if rows.sizes[i, 0] else None
    answers = range(rows.sizes.shape[1] - 1) if one else ()
    names.append([data_rows.path_key(one, c, pictures(i)) for c in answers])
  return names


def read(folder: Path) -> dict[str, np.ndarray]:
  """All that is in a cache: path name -> float32 log-probs."""
  values = {}
  for shard in sorted(folder.glob('shard-*.npz')):
    try:
      with np.load(shard) as f:
        parts = np.split(f['values'], np.cumsum(f['sizes'])[:-1])
        names = f['names'].tolist()
    except Exception as error:
      raise ValueError(
        f'{shard}: this shard of the reference does not read ({error}): delete '
        'it, and the next run scores its rows again'
      ) from error
    values |= dict(zip(names, parts, strict=True))
  return values


def write(folder: Path, number: int, values: Mapping[str, np.ndarray]) -> None:
  shard = folder / f'shard-{number:05d}.npz'
  with files.atomic(shard) as tmp, open(tmp, 'wb') as f:
    np.savez(
      f,
      names=np.array(list(values)),
      sizes=np.array([len(v) for v in values.values()]),
      values=np.concatenate(list(values.values())),
    )


def scorer(model: Any, mesh: Mesh) -> Callable:
  """(params, batch) -> f32[B,L], compiled."""
  return jax.jit(
    lambda params, batch: token_logps(model, params, batch),
    compiler_options=sharding.compiler(mesh),
  )


def reference(
  model: Any,
  params: Any,
  rows: data_rows.Rows,
  images: Callable[[np.ndarray], dict[str, np.ndarray]] | None,
  *,
  names: list[list[str]],
  folder: Path,
  fingerprint: Mapping[str, str],
  buckets: list,
  batch: int,
  mesh: Mesh,
) -> data_rows.Lookup:
  """Scores what the cache lacks; returns row -> log-probs of each answer."""
  check_fingerprint(folder, fingerprint)
  values = read(folder)
  todo = np.array([any(n not in values for n in ns) for ns in names])
  lengths = data_rows.lengths(rows) * todo[:, None]
  steps = plan.plan(
    0, 0, lengths, buckets=buckets, batch=batch, shuffle=False,
    prompts=data_rows.prompts(rows),
  )  # fmt: skip
  score = scorer(model, mesh)
  taken = [int(re.search(r'\d+', p.name)[0]) for p in folder.glob('shard-*')]
  number, fresh = max(taken, default=-1) + 1, {}
  bar = tqdm(steps, desc='reference', unit='batch', disable=not steps,
             dynamic_ncols=True)  # fmt: skip
  here = hosts.rows(batch, mesh)
  for k, (bucket, index) in enumerate(bar):
    arrays = data_rows.assemble(rows, index[here], bucket)
    if images is not None:
      arrays |= images(index[here])
    logps = score(params, to_batch((bucket, arrays), mesh))
    found = data_rows.gather(hosts.whole(logps), rows, index, bucket)
    for i, answers in zip(index[index >= 0], found, strict=True):
      fresh |= dict(zip(names[i], answers, strict=True))
    if (k + 1) % SHARD == 0 or k + 1 == len(steps):
      write(folder, number, fresh)
      values, fresh, number = values | fresh, {}, number + 1
  hosts.meet()  # before anybody reads what process 0 has written
  return lambda i: [values[name] for name in names[i]]
