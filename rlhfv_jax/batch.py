"""The batch: rows that are a trunk with branches, and all that follows.

A row holds what its answers share once (the trunk: picture, question, common
head of the answers) and then the rest of each answer (its branches). A bucket
fixes the slots: the trunk fills [0, T) from the left, branch c the R slots from
T + c R. `lengths` says how far each slot is filled; which token precedes which,
the positions, and who may attend to whom follow from it, so no row can
contradict itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Bucket(NamedTuple):
  """A static shape: slots in the trunk, in each branch, and answers a row."""

  trunk: int
  branch: int
  answers: int

  @property
  def length(self) -> int:
    """L: all slots of a row. A lone answer lives in the trunk."""
    return self.trunk + self.branch * self.answers


@jax.tree_util.register_pytree_with_keys_class
class Batch(dict):
  """Arrays by name, in a bucket that is static under jit.

  tokens i32[B,L]; lengths i32[B,1+C]; roles i8[B,C,L] (0 not scored,
  1 unchanged, 2 corrected); images u8[B,H,W,3], or what the tower saw of them,
  seen [B,P,D], or features at the decoder's width; index i32[B]; ref_logps and
  whatever else belongs to a token f32[B,L].
  """

  def __init__(self, arrays: Mapping[str, Any], bucket: Bucket):
    super().__init__(arrays)
    self.bucket = Bucket(*bucket)

  def tree_flatten_with_keys(self):
    names = tuple(sorted(self))
    children = [(jax.tree_util.DictKey(n), self[n]) for n in names]
    return children, (names, self.bucket)

  @classmethod
  def tree_unflatten(cls, static, children):
    names, bucket = static
    return cls(zip(names, children, strict=True), bucket)


def bucket_of(batch: Mapping[str, Any]) -> Bucket:
  """The bucket of a Batch, or of a plain dict whose rows have one answer."""
  if isinstance(batch, Batch):
    return batch.bucket
  answers = batch['lengths'].shape[1] - 1
  if answers == 1:
    return Bucket(batch['tokens'].shape[1], 0, 1)
  raise ValueError(
    f'a batch of {answers} answers a row needs its bucket: '
    'Batch(arrays, bucket=(trunk, branch, answers))'
  )


def layout(
  lengths: jax.Array, bucket: Bucket
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """lengths i32[B,1+C] -> parent, position, branch, each i32[B,L].

  parent is the slot of the token before (-1: none), position counts along the
  token's own path, branch is 0 in the trunk, c + 1 in branch c, -1 in padding.
  """
  trunk, rest, answers = bucket
  slot = np.repeat(np.arange(1 + answers), [trunk] + [rest] * answers)[None]
  offset = np.r_[np.arange(trunk), np.tile(np.arange(rest), answers)][None]
  filled = offset < lengths[:, slot[0]]
  position = jnp.where(slot > 0, lengths[:, :1] + offset, offset)
  first = (slot > 0) & (offset == 0)
  before = np.arange(bucket.length)[None] - 1
  parent = jnp.where(first, lengths[:, :1] - 1, before)
  branch = jnp.where(filled, slot, -1)
  return parent, position.astype(jnp.int32), branch.astype(jnp.int32)


def mask(branch: jax.Array) -> jax.Array:
  """bool[B,1,L,L]: a token sees its trunk and its own branch, up to itself.

  Padding sees itself alone, so that no softmax is over nothing.
  """
  length = branch.shape[1]
  earlier = np.tril(np.ones((1, length, length), bool))
  query, key = branch[:, :, None], branch[:, None, :]
  own = (key == 0) | (key == query)
  seen = earlier & own & (key >= 0) & (query >= 0)
  return (seen | np.eye(length, dtype=bool)[None])[:, None]


def scored(roles: jax.Array) -> jax.Array:
  """bool[B,L]: tokens that count in at least one answer."""
  return (roles > 0).any(axis=1)
