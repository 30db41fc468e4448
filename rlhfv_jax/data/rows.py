"""Rows: examples once tokenised, and how rows become the arrays of a bucket.

A row's path c is its prompt followed by its answer c. In a bucket (trunk T,
branch R, answers C) the tokens up to the fork stand in the trunk, once, and the
rest of path c in the R slots from T + c R (`rlhfv_jax/batch.py`). The fork is
at the end of what the answers share, or at T where that is earlier.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlhfv_jax.data.example import Example as Example
from rlhfv_jax.data.example import RowError as RowError
from rlhfv_jax.data.example import Span as Span
from rlhfv_jax.data.example import from_dict as from_dict
from rlhfv_jax.data.example import to_dict as to_dict

DIGEST = 16  # bytes
NO_PICTURE, NOT_READ = bytes(DIGEST), b'\xff' * DIGEST

# Row number -> for each answer, f32 values of the scored tokens of its path.
Lookup = Callable[[int], Sequence[np.ndarray]]


class Row(NamedTuple):
  """A tokenised example. roles[c] runs along the whole path c.

  0 is not scored, 1 unchanged, 2 corrected.
  """

  prompt: np.ndarray  # i32
  answers: tuple[np.ndarray, ...]  # i32 each, with the stop
  roles: tuple[np.ndarray, ...]  # i8 each
  head: int  # leading answer tokens that all answers share

  def path(self, answer: int) -> np.ndarray:
    return np.concatenate([self.prompt, self.answers[answer]])


class Rejected(NamedTuple):
  index: int
  id: str
  reason: str
  detail: str


@dataclass(frozen=True)
class Rows:
  """All rows of a source, flat. A rejected row keeps its number and has size 0.

  So a row's number is its place in the source, and finds its picture too.
  """

  tokens: np.ndarray  # i32: prompt, answer 0, answer 1, ..., row after row
  roles: np.ndarray  # i8: path 0, path 1, ..., row after row
  sizes: np.ndarray  # i32[N,1+C]: tokens in the prompt and in each answer
  heads: np.ndarray  # i32[N]
  starts: np.ndarray  # i64[N,2]: where the row's tokens and roles begin
  pictures: np.ndarray  # u8[N,16]: digests; 0s: without one, 255s: not read
  ids: tuple[str, ...]
  rejected: tuple[Rejected, ...] = ()

  def __len__(self) -> int:
    return len(self.sizes)

  @property
  def kept(self) -> int:
    return int((self.sizes[:, 0] > 0).sum())

  @property
  def reasons(self) -> Counter:
    return Counter(row.reason for row in self.rejected)


def pack(
  rows: Sequence[Row | None],
  ids: Sequence[str],
  rejected: Sequence[Rejected] = (),
  pictures: Sequence[bytes] | None = None,
) -> Rows:
  """Rows in flat arrays; None stands for a rejected row."""
  counts = {len(row.answers) for row in rows if row is not None}
  check_alike(counts)
  answers = counts.pop() if counts else 1
  sizes = np.zeros((len(rows), 1 + answers), np.int32)
  heads = np.zeros(len(rows), np.int32)
  tokens, roles = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)]
  for i, row in enumerate(rows):
    if row is not None:
      sizes[i] = [len(row.prompt), *map(len, row.answers)]
      heads[i] = row.head
      tokens += [row.prompt, *row.answers]
      roles += row.roles
  wide = sizes.astype(np.int64)
  lengths = np.stack([wide.sum(1), wide.sum(1) + (answers - 1) * wide[:, 0]], 1)
  return Rows(
    tokens=np.concatenate(tokens),
    roles=np.concatenate(roles),
    sizes=sizes,
    heads=heads,
    starts=np.cumsum(lengths, axis=0) - lengths,
    pictures=_digests(pictures or [NO_PICTURE] * len(rows)),
    ids=tuple(ids),
    rejected=tuple(rejected),
  )


def _digests(names: Sequence[bytes]) -> np.ndarray:
  return np.frombuffer(b''.join(names), np.uint8).reshape(-1, DIGEST)


def join(parts: Sequence[Rows]) -> Rows:
  """Rows one after the other. A part without any fits to all."""
  counts = {part.sizes.shape[1] - 1 for part in parts if part.kept}
  check_alike(counts)
  answers = counts.pop() if counts else 1
  sizes = np.zeros((sum(map(len, parts)), 1 + answers), np.int32)
  starts = np.zeros((len(sizes), 2), np.int64)
  at, begin = 0, np.zeros(2, np.int64)
  for part in parts:
    if part.kept:
      sizes[at : at + len(part)] = part.sizes
    starts[at : at + len(part)] = part.starts + begin
    at += len(part)
    begin += [len(part.tokens), len(part.roles)]

  def whole(name: str, dtype: type) -> np.ndarray:
    none = np.zeros(0, dtype)
    return np.concatenate([none, *(getattr(part, name) for part in parts)])

  none = np.zeros((0, DIGEST), np.uint8)

  return Rows(
    tokens=whole('tokens', np.int32),
    roles=whole('roles', np.int8),
    sizes=sizes,
    heads=whole('heads', np.int32),
    starts=starts,
    pictures=np.concatenate([none, *(part.pictures for part in parts)]),
    ids=tuple(id for part in parts for id in part.ids),
    rejected=tuple(row for part in parts for row in part.rejected),
  )


def check_alike(counts: Collection[int]) -> None:
  """Rows of one set have so many answers each."""
  if len(counts) > 1:
    raise ValueError(
      f'rows of {sorted(counts)} answers in one set: make a set for each, '
      'demonstrations (1) apart from pairs (2)'
    )


def row(rows: Rows, index: int) -> Row:
  """Row `index`, as views of the flat arrays."""
  prompt, *answers = rows.sizes[index].tolist()
  at, role_at = rows.starts[index].tolist()
  ends = np.cumsum([prompt, *answers]).tolist()
  paths = np.cumsum([0] + [prompt + n for n in answers]).tolist()
  return Row(
    rows.tokens[at : at + prompt],
    tuple(
      rows.tokens[at + a : at + b]
      for a, b in zip(ends[:-1], ends[1:], strict=True)
    ),
    tuple(
      rows.roles[role_at + a : role_at + b]
      for a, b in zip(paths[:-1], paths[1:], strict=True)
    ),
    int(rows.heads[index]),
  )


def lengths(rows: Rows) -> np.ndarray:
  """i32[N,1+C]: prompt with common head, then the rest of each answer."""
  rest = rows.sizes[:, 1:] - rows.heads[:, None]
  trunk = rows.sizes[:, :1] + rows.heads[:, None]
  return np.concatenate([trunk, rest], axis=1).astype(np.int32)


def prompts(rows: Rows) -> np.ndarray:
  """i32[N]: tokens that have to stand in the trunk."""
  return rows.sizes[:, 0]


def place(
  one: Row, bucket: tuple[int, int, int]
) -> tuple[int, list[np.ndarray]]:
  """The fork, and for each path the slots of its tokens in the bucket."""
  trunk, branch, _ = bucket
  prompt = len(one.prompt)
  fork = min(prompt + one.head, trunk)
  rest = max(prompt + len(answer) - fork for answer in one.answers)
  if prompt > trunk or rest > branch:
    raise ValueError(
      f'a row with a prompt of {prompt} and {rest} tokens after the fork at '
      f'{fork} does not fit the bucket {tuple(bucket)}: plan with the buckets '
      'the rows were read for'
    )
  places = []
  for c, answer in enumerate(one.answers):
    places.append(np.arange(prompt + len(answer)))
    places[c][fork:] += trunk + c * branch - fork
  return fork, places


def assemble(
  rows: Rows,
  indices: np.ndarray,
  bucket: tuple[int, int, int],
  *,
  extras: Mapping[str, Lookup] | None = None,
  read: bool = False,
) -> dict[str, np.ndarray]:
  """Rows -> tokens, lengths, roles, index in a bucket; -1 is an empty row.

  An extra is put at the tokens it concerns; where the answers share a token,
  it is answer 0 that tells. `read` gives the slot of each path's last token.
  """
  trunk, branch, answers = bucket
  size, length = len(indices), trunk + branch * answers
  if answers != rows.sizes.shape[1] - 1:
    raise ValueError(
      f'the bucket {tuple(bucket)} is for {answers} answers a row, these rows '
      f'have {rows.sizes.shape[1] - 1}'
    )
  extras = extras or {}
  batch = {
    'tokens': np.zeros((size, length), np.int32),
    'lengths': np.zeros((size, 1 + answers), np.int32),
    'roles': np.zeros((size, answers, length), np.int8),
    'index': np.asarray(indices, np.int32),
    **{name: np.zeros((size, length), np.float32) for name in extras},
  }
  if read:
    batch['read'] = np.zeros((size, answers), np.int32)
  for b, index in enumerate(indices):
    if index < 0:
      continue
    one = row(rows, index)
    fork, places = place(one, bucket)
    values = {name: lookup(int(index)) for name, lookup in extras.items()}
    batch['lengths'][b] = [fork] + [len(slots) - fork for slots in places]
    for c in reversed(range(answers)):
      batch['tokens'][b, places[c]] = one.path(c)
      batch['roles'][b, c, places[c]] = one.roles[c]
      for name in extras:
        batch[name][b, places[c][one.roles[c] > 0]] = values[name][c]
      if read:
        batch['read'][b, c] = places[c][-1]
  return batch


def gather(
  values: np.ndarray,
  rows: Rows,
  indices: np.ndarray,
  bucket: tuple[int, int, int],
) -> list[list[np.ndarray]]:
  """values [B,L] -> what a lookup returns, for each row that is no filler."""
  found = []
  for value, index in zip(values, indices, strict=True):
    if index >= 0:
      one = row(rows, index)
      _, places = place(one, bucket)
      found.append(
        [
          value[slots[role > 0]]
          for slots, role in zip(places, one.roles, strict=True)
        ]
      )
  return found


def path_key(one: Row, answer: int, image_digest: str | None) -> str:
  """Names what a per-token cache of this path depends on.

  The tokens, which of them are scored, and the picture: nothing of the bucket,
  the batch, or which of the scored tokens count as corrected.
  """
  path = one.path(answer).astype('<i4').tobytes()
  scored = np.packbits(one.roles[answer] > 0).tobytes()
  key = hashlib.blake2b(digest_size=16)
  for part in (path, scored, (image_digest or '').encode()):
    key.update(len(part).to_bytes(8, 'little') + part)
  return key.hexdigest()
