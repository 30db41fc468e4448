"""The plan: which rows make which global batch, in which bucket, each epoch.

A pure function of its arguments, equal on every process, so that all processes
meet the same shape in the same step and a step number is all the state.
"""

from collections.abc import Sequence

import numpy as np

Bucket = tuple[int, int, int]  # slots in the trunk, in each branch, answers


def fits(
  lengths: np.ndarray, bucket: Bucket, *, prompts: np.ndarray | None = None
) -> np.ndarray:
  """bool[N]: rows that the bucket holds.

  Where the trunk is too short for prompt and common head, the fork comes
  earlier and the remainder of the head stands in each branch. The prompt
  (with its picture) never does: `prompts` i32[N] says how long it is.
  """
  trunk, branch, _ = bucket
  over = np.maximum(lengths[:, 0] - trunk, 0)
  held = over + lengths[:, 1:].max(axis=1) <= branch
  return held if prompts is None else held & (prompts <= trunk)


def slots(bucket: Bucket) -> int:
  trunk, branch, answers = bucket
  return trunk + branch * answers


def assign(
  lengths: np.ndarray,
  buckets: Sequence[Bucket],
  *,
  prompts: np.ndarray | None = None,
) -> np.ndarray:
  """i32[N]: the smallest bucket that holds the row; -1: a row of no tokens."""
  place = np.full(len(lengths), len(buckets), np.int32)
  sizes = [slots(bucket) for bucket in buckets]
  for b in np.argsort(sizes, kind='stable')[::-1]:
    place[fits(lengths, buckets[b], prompts=prompts)] = b
  place[lengths[:, 0] == 0] = -1
  homeless = np.flatnonzero(place == len(buckets))
  if len(homeless):
    raise ValueError(
      f'{len(homeless)} rows fit no bucket, row {homeless[0]} of lengths '
      f'{lengths[homeless[0]].tolist()} among them; the buckets are '
      f'{[tuple(b) for b in buckets]}: read the rows with these buckets, which '
      'rejects and counts them, or add a larger one'
    )
  return place


def padding(
  lengths: np.ndarray,
  buckets: Sequence[Bucket],
  *,
  prompts: np.ndarray | None = None,
) -> float:
  """The share of the slots that no token fills; whole batches aside."""
  place = assign(lengths, buckets, prompts=prompts)
  counts = np.bincount(place[place >= 0], minlength=len(buckets))
  taken = sum(n * slots(b) for n, b in zip(counts, buckets, strict=True))
  return float(1 - lengths.sum() / taken) if taken else 0.0


def steps_per_epoch(
  lengths: np.ndarray,
  *,
  buckets: Sequence[Bucket],
  batch: int,
  prompts: np.ndarray | None = None,
) -> int:
  place = assign(lengths, buckets, prompts=prompts)
  counts = np.bincount(place[place >= 0], minlength=len(buckets))
  return int((-(-counts // batch)).sum())


def plan(
  seed: int,
  epoch: int,
  lengths: np.ndarray,
  *,
  buckets: Sequence[Bucket],
  batch: int,
  prompts: np.ndarray | None = None,
  shuffle: bool = True,
) -> list[tuple[Bucket, np.ndarray]]:
  """The global batches of an epoch: (bucket, row numbers i32[batch]).

  Every row once; -1 fills the last batch of each bucket.
  """
  place = assign(lengths, buckets, prompts=prompts)
  batches = []
  for b, bucket in enumerate(buckets):
    members = np.flatnonzero(place == b).astype(np.int32)
    if shuffle:
      members = members[_order(len(members), seed, epoch, 1 + b)]
    short = -len(members) % batch
    filled = np.concatenate([members, np.full(short, -1, np.int32)])
    batches += [(tuple(bucket), part) for part in filled.reshape(-1, batch)]
  if shuffle:
    batches = [batches[i] for i in _order(len(batches), seed, epoch, 0)]
  return batches


def _order(n: int, *entropy: int) -> np.ndarray:
  """A permutation. From raw bits, which no numpy release may change."""
  bits = np.random.Philox(np.random.SeedSequence(entropy)).random_raw(n)
  return np.argsort(bits, kind='stable')


def choose_buckets(
  lengths: np.ndarray,
  at_most: int = 3,
  *,
  multiple: int = 8,
  prompts: np.ndarray | None = None,
) -> tuple[list[Bucket], float]:
  """Shapes that hold every row with little padding, and the share of padding.

  Starts from the smallest shape that holds all, then adds the shape that saves
  most, and at last mends each in turn: few shapes, since each is a compilation.
  """
  real = lengths[:, 0] > 0
  if not real.any():
    raise ValueError('no rows to choose buckets for')
  if prompts is None:
    prompts = np.zeros(len(lengths), np.int32)
  shapes = _candidates(lengths[real], multiple)
  kinds, counts = np.unique(
    np.column_stack([lengths, prompts])[real], axis=0, return_counts=True
  )
  lengths, prompts = kinds[:, :-1], kinds[:, -1]
  costs = np.stack(
    [
      np.where(fits(lengths, s, prompts=prompts), slots(s), np.inf)
      for s in shapes
    ]
  )

  def with_each(chosen: list[int]) -> np.ndarray:
    """What all rows cost in these shapes and one more, for each other."""
    least = costs[chosen].min(axis=0, initial=np.inf)
    return np.minimum(costs, least) @ counts

  chosen = []
  for _ in range(at_most):
    chosen.append(int(np.argmin(with_each(chosen))))
  for k in range(at_most):
    chosen[k] = int(np.argmin(with_each(chosen[:k] + chosen[k + 1 :])))
  total = costs[chosen].min(axis=0) @ counts
  buckets = sorted({shapes[i] for i in chosen}, key=slots)
  return buckets, float(1 - (lengths.sum(axis=1) @ counts) / total)


def with_room(
  lengths: np.ndarray, buckets: Sequence[Bucket], *, prompts: np.ndarray
) -> list[Bucket]:
  """The buckets and, where rows fit none of them, one more for those."""
  held = [fits(lengths, bucket, prompts=prompts) for bucket in buckets]
  left = (lengths[:, 0] > 0) & ~np.any(held, axis=0)
  if not left.any():
    return list(buckets)
  more, _ = choose_buckets(lengths[left], 1, prompts=prompts[left])
  return [*buckets, *more]


def _candidates(lengths: np.ndarray, multiple: int) -> list[Bucket]:
  """Shapes at the quantiles of the trunks, and of what a trunk leaves over."""
  answers = lengths.shape[1] - 1
  shares = np.linspace(0, 1, 17)

  def rounded(values: np.ndarray) -> list[int]:
    cuts = np.quantile(values, shares, method='higher').astype(int)
    return sorted({int(-(-cut // multiple) * multiple) for cut in cuts})

  if answers == 1 and not lengths[:, 1].any():
    return [(trunk, 0, 1) for trunk in rounded(lengths[:, 0])]
  shapes = []
  for trunk in rounded(lengths[:, 0]):
    over = np.maximum(lengths[:, 0] - trunk, 0)
    rest = over + lengths[:, 1:].max(axis=1)
    shapes += [(trunk, branch, answers) for branch in rounded(rest)]
  return shapes
