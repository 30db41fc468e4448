"""One step on one slice: what it takes of a chip, and what it does wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from rlhfv_jax import meshes, optim, sharding
from rlhfv_jax.batch import Bucket
from rlhfv_jax.preflight import flops, hlo, steps
from rlhfv_jax.stages import problem

HEADROOM = 0.02  # of the memory: what the runtime keeps for itself


class Case(NamedTuple):
  """A setup on a slice: what all questions are asked of."""

  s: problem.Setup
  slice: meshes.Slice
  bucket: Bucket

  @property
  def chip(self) -> meshes.Chip:
    return meshes.CHIPS[self.slice.chip]

  @property
  def shards(self) -> int:
    """Rows come in multiples of it."""
    return self.s.mesh.shape['data'] * self.s.mesh.shape['fsdp']


def check(case: Case, rows: int) -> None:
  """What no compiler needs to be asked."""
  train = case.s.config.train
  sharding.check_batch(rows, case.s.mesh, micro=train.micro)
  limit = case.s.model.config.text.max_length
  longest = case.bucket.trunk + case.bucket.branch
  if longest > limit:
    raise ValueError(
      f'--bucket={",".join(map(str, case.bucket))} reaches position {longest}, '
      f'but text.max_length is {limit}: take a shorter one'
    )
  seen = case.s.model.config.image_tokens
  if case.bucket.trunk <= seen:
    raise ValueError(
      f'--bucket={",".join(map(str, case.bucket))}: a picture alone takes '
      f'{seen} of the trunk: make its first number larger'
    )


def warnings(case: Case, rows: int) -> list[str]:
  """What will run, and could be better."""
  told = []
  tokens = rows * case.bucket.length / case.s.mesh.size
  if case.s.mesh.shape['fsdp'] > 1 and tokens < case.chip.enough:
    told.append(
      f'{tokens:.0f} tokens a chip: weights take longer to come than products '
      f'with them below about {case.chip.enough} on {case.slice.chip}; raise '
      'config.train.batch, or the last number of config.mesh'
    )
  return told


def training(case: Case, rows: int) -> dict[str, Any]:
  """Memory, cycles and what follows from them, of one step on one chip."""
  made = steps.training(case.s, case.bucket, rows)
  scored = case.bucket.branch * case.bucket.answers or case.bucket.length
  return described(case, made) | timed(case, made, rows, scored)


def apart(case: Case, made: steps.Built, rows: int) -> dict[str, Any]:
  """The same of a step in which the pairs share nothing."""
  found = described(case, made)
  if made.fits:
    answers, (trunk, rest, _) = case.bucket.answers, case.bucket
    program = hlo.read(made.text, taken=rest / (trunk + rest))
    found['cycles'] = program.cycles
    found['tokens'] = rows * answers * (trunk + rest)
  return found


def described(case: Case, made: steps.Built) -> dict[str, Any]:
  limit = case.chip.memory
  return {
    'fits': made.fits and made.peak <= (1 - HEADROOM) * limit,
    'peak_gib': round(made.peak, 2),
    'limit_gib': limit,
    'arguments_gib': round(made.arguments, 2),
    'temporaries_gib': round(made.temporaries, 2),
    'reused_gib': round(made.reused, 2),
    'compile_seconds': round(made.seconds, 1),
  }


def timed(
  case: Case, made: steps.Built, rows: int, scored: int
) -> dict[str, Any]:
  """Bounds of a step's time; without a program, nothing."""
  if not made.fits:
    return {}
  chip, c = case.chip, case.s.model.config
  program = hlo.read(made.text, taken=scored / case.bucket.length)
  work = flops.step(
    flops.forward(c, case.bucket, scored=scored), **_trained(case.s)
  )
  work *= rows / case.s.mesh.size
  computing = program.cycles / (chip.clock * 1e9)
  moving = sum(program.bytes.values()) / (chip.links * 1e9)
  return {
    'cycles': program.cycles,
    'compute_seconds': computing,
    'transfer_seconds': moving,
    'pairs_per_second': rows / max(computing, moving),
    'model_flops': work,
    'estimated_mfu': work / computing / (chip.tflops * 1e12),
    'collectives': program.collectives,
    'collective_gb': {k: v / 1e9 for k, v in program.bytes.items()},
    'asynchronous': program.beside,
    'kernels': program.kernels,
    'problems': problems(case, made, program, rows),
  }


def _trained(s):
  """What of the way back is computed at all."""
  begin = problem.start(s)
  labels = optim.labels(problem.abstract_params(s), s.config.train.rules)
  tower = set(jax.tree.leaves(labels.get('vision_tower', {})))
  stays = begin.rank or tower == {optim.FROZEN}
  return {'frozen': ('tower',) if stays else (), 'adapted': bool(begin.rank)}


def problems(
  case: Case, made: steps.Built, program: hlo.Program, rows: int
) -> list[str]:
  """What a step of ours must not do; each would be a bug."""
  found = []
  text = case.s.model.config.text
  words = text.vocab_size // case.s.mesh.shape['tensor']
  length = case.bucket.length
  many = rows // case.shards * length
  for kind, dims in program.shapes:
    if dims == (text.width, words):  # the head's own kernel
      continue
    whole = length in dims[:-1] or math.prod(dims[:-1]) == many
    if dims[-1:] == (words,) and whole:
      found.append(f'an array {kind}{list(dims)} of logits of whole rows')
  for kind, dims in program.gathered:
    if kind == 'f32' and math.prod(dims) >= 2**20:
      found.append(f'weights are gathered in float32: {list(dims)}')
  if made.reused < 0.95 * made.arguments - 0.2:
    found.append(
      f'{made.arguments - made.reused:.2f} GiB of the state are not reused'
    )
  return found


def largest(
  case: Case,
  first: Mapping[str, Any],
  rows: int,
  ask: Callable[[int], dict[str, Any]],
) -> dict[str, Any]:
  """The largest batch that fits, in few compilations.

  Memory is nearly a line in the rows of a chip: two points give it, and what
  it says is compiled to be sure.
  """
  unit = case.shards * case.s.config.train.micro
  room = (1 - HEADROOM) * case.chip.memory
  known = {rows // unit: first}

  def peak(n):
    if n not in known:
      known[n] = ask(n * unit)
    return known[n]['peak_gib']

  peak(max(1, rows // unit // 2) if rows > unit else 2)
  for _ in range(3):
    (a, low), (b, high) = sorted(
      (n, known[n]['peak_gib']) for n in sorted(known)[-2:]
    )
    slope = max((high - low) / (b - a), 1e-3)
    fits = [n for n in known if known[n]['fits']]
    guess = max(int(b + (room - high) / slope), 0)
    over = [n for n in known if not known[n]['fits']]
    guess = min(guess, min(over, default=guess + 1) - 1)
    if guess <= max(fits, default=0):
      break
    peak(guess)
  best = max((n for n in known if known[n]['fits']), default=0)
  return {'rows': best * unit, 'peak_gib': known[best]['peak_gib']} \
    if best else {'rows': 0}  # fmt: skip
