"""Serving: more prompts than slots. Who is done makes room for the next.

Shapes are static: so many slots, prefills of so many rows in a few lengths. An
answer is the same in whatever slot, beside whatever neighbours: what is drawn
depends on the prompt's own number.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhfv_jax import models
from rlhfv_jax.batch import Batch, Bucket
from rlhfv_jax.generate import check, generate
from rlhfv_jax.generate.decoding import Decoding
from rlhfv_jax.generate.slots import State, begin, tick, write
from rlhfv_jax.sharding import BATCH

STEPS = 32  # tokens a dispatch, at most


class Prompt(NamedTuple):
  index: int
  tokens: np.ndarray  # i32
  image: np.ndarray | None = None  # u8[H,W,3]


class Answer(NamedTuple):
  """Tokens with the stop, if there was one, and their log-probabilities."""

  index: int
  tokens: np.ndarray
  logps: np.ndarray
  sample: int = 0  # of the n


def ladder(lengths: Sequence[int]) -> tuple[int, ...]:
  """The lengths prompts are padded to: the longest, halved while any fits."""
  rungs = [-(-int(max(lengths)) // 8) * 8]
  while rungs[-1] > 8 and min(lengths) <= -(-rungs[-1] // 16) * 8:
    rungs.append(-(-rungs[-1] // 16) * 8)
  return tuple(reversed(rungs))


def stream(
  model: models.VLM,
  params: Any,
  prompts: Iterable[Prompt],
  decoding: Decoding,
  key: jax.Array,
  *,
  slots: int,
  trunks: Sequence[int],
  mesh: Mesh,
  over: Callable[[int, np.ndarray], bool] | None = None,
  steps: int = STEPS,
) -> Iterator[Answer]:
  """Answers in the order in which they end, `slots` at a time.

  `trunks` are the lengths that prompts are padded to, shortest first. `over` is
  shown what a prompt's answer is so far and may end it there.
  """
  if not isinstance(params, models.Weights):
    params = models.split(model, params)
  shards = mesh.shape['data'] * mesh.shape['fsdp']
  run = _searched if decoding.beams > 1 else _served
  room = slots if decoding.beams > 1 else slots // (8 * decoding.n)
  room = max(shards, room // shards * shards)
  if slots % shards or (run is _served and room * decoding.n > slots):
    raise ValueError(
      f'{slots} slots for {decoding.n} answers a prompt over {shards} shards: '
      f'take a multiple of {shards} that is at least {shards * decoding.n}'
    )
  queue = _queue(model, prompts, decoding, room=room, trunks=trunks, mesh=mesh)
  yield from run(
    model, params, queue, decoding, key, slots=slots, mesh=mesh,
    trunk=max(trunks), over=over or (lambda index, tokens: False), steps=steps,
  )  # fmt: skip


def _queue(model, prompts, decoding, *, room, trunks, mesh):
  """Batches of prompts of one length: that of the one that waits longest."""
  source, waiting = iter(prompts), deque()

  def trunk_of(prompt):
    fits = [t for t in trunks if len(prompt.tokens) <= t]
    if not fits:
      raise ValueError(
        f'prompt {prompt.index} has {len(prompt.tokens)} tokens and the '
        f'longest trunk is {max(trunks)}: give a longer one'
      )
    return fits[0]

  while True:
    while len(waiting) < 4 * room and (one := next(source, None)) is not None:
      waiting.append(one)
    if not waiting:
      return
    trunk = trunk_of(waiting[0])
    group = [p for p in waiting if trunk_of(p) == trunk][:room]
    taken = {id(p) for p in group}
    waiting = deque(p for p in waiting if id(p) not in taken)
    batch = _batch(model, group, room, trunk, mesh)
    check(model, batch, decoding)
    yield group, batch


def _batch(model, group, room, trunk, mesh):
  arrays = {
    'tokens': np.zeros((room, trunk), np.int32),
    'lengths': np.zeros((room, 2), np.int32),
    'index': np.zeros(room, np.int32),
  }
  if model.config.vision is not None:
    side = model.config.vision.image_size
    arrays['images'] = np.zeros((room, side, side, 3), np.uint8)
  for b, prompt in enumerate(group):
    arrays['tokens'][b, : len(prompt.tokens)] = prompt.tokens
    arrays['lengths'][b, 0] = len(prompt.tokens)
    arrays['index'][b] = prompt.index
    if prompt.image is not None and 'images' in arrays:
      arrays['images'][b] = prompt.image
  place = NamedSharding(mesh, BATCH)
  # Every process has all of it.
  put = lambda x: jax.make_array_from_callback(x.shape, place, x.__getitem__)
  return Batch({k: put(x) for k, x in arrays.items()}, Bucket(trunk, 0, 1))


def _searched(model, weights, queue, decoding, key, *, mesh, **_):
  """Beams are searched a batch at a time."""
  whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))
  for group, batch in queue:
    found = generate(model, weights, batch, decoding, key)
    tokens, logps = jax.device_get(jax.tree.map(whole, found))
    for b, prompt in enumerate(group):
      for k in range(decoding.n):
        row = b * decoding.n + k
        # 0 is the log-probability of what was not written alone.
        size = int((logps[row] != 0).sum())
        yield Answer(prompt.index, tokens[row, :size], logps[row, :size], k)


def _served(
  model, weights, queue, decoding, key, *, slots, mesh, trunk, over, steps
):
  state = _empty(model, decoding, slots, trunk, mesh, key)
  holds: list[tuple[int, int] | None] = [None] * slots
  read, end = np.zeros(slots, np.int32), np.zeros(slots, bool)
  ahead = next(queue, None)
  while True:
    free = [s for s, held in enumerate(holds) if held is None]
    while ahead and len(free) >= len(ahead[1]['tokens']) * decoding.n:
      group, batch = ahead
      asked = [(p.index, k) for p in group for k in range(decoding.n)]
      places = np.full(len(batch['tokens']) * decoding.n, slots, np.int32)
      places[: len(asked)] = free[: len(asked)]
      for place, one in zip(free, asked, strict=False):
        holds[place], read[place], end[place] = one, 0, False
      free = free[len(asked) :]
      state = _admit(model, decoding, mesh, weights, state, batch, places, key)
      ahead = next(queue, None)
    if not any(holds):
      return
    room = len(ahead[1]['tokens']) * decoding.n if ahead else slots + 1
    state = _run(model, decoding, mesh, weights, state, end, room, steps)
    told = state.alive, state.count, state.tokens, state.logps
    alive, count, tokens, logps = jax.device_get(told)
    end = np.zeros(slots, bool)
    for s, held in enumerate(holds):
      if held is None:
        continue
      size = _size(tokens[s], read[s], int(count[s]), partial(over, held[0]))
      read[s] = count[s]
      if size is not None or not alive[s]:
        size = int(count[s]) if size is None else size
        end[s], holds[s] = True, None
        yield Answer(
          held[0], tokens[s, :size].copy(), logps[s, :size].copy(), held[1]
        )


def _size(tokens, read, count, over):
  """The first size at which an answer is over, whenever it was looked at."""
  if not over(tokens[:count]):
    return None
  sizes = range(read + 1, count)
  return next((n for n in sizes if over(tokens[:n])), count)


def _placed(state, mesh):
  return jax.lax.with_sharding_constraint(state, _places(state, mesh))


def _places(state, mesh):
  """Keys and values lie as the rows and heads do, what is told everywhere."""
  fits = state.prompts[0].k.shape[1] % mesh.shape['tensor'] == 0
  heads = NamedSharding(mesh, P(*BATCH, 'tensor' if fits else None))
  whole = NamedSharding(mesh, P())
  place = jax.tree.map(lambda x: whole, state)
  kept = {k: jax.tree.map(lambda x: heads, getattr(state, k))
          for k in ('prompts', 'new')}  # fmt: skip
  return place._replace(**kept)


def lowered(
  model: models.VLM,
  weights: models.Weights,
  decoding: Decoding,
  *,
  slots: int,
  trunk: int,
  mesh: Mesh,
) -> jax.stages.Lowered:
  """The loop that `stream` runs, of shapes alone: what a compiler is given."""
  empty = partial(_empty, model, decoding, slots, trunk, mesh)
  state = jax.eval_shape(empty, jax.eval_shape(lambda: jax.random.key(0)))
  shape = lambda x, place: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=place
  )
  state = jax.tree.map(shape, state, _places(state, mesh))
  number = jax.ShapeDtypeStruct((), jnp.int32)
  end = jax.ShapeDtypeStruct((slots,), bool)
  return _run.lower(model, decoding, mesh, weights, state, end, number, number)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _empty(model, decoding, rows, trunk, mesh, key):
  new, text = (rows, decoding.max_new), model.config.text
  seen = text.vocab_size if decoding.repetition_penalty != 1 else 0
  exact = jnp.promote_types(model.config.dtype, jnp.float32)
  none = jnp.zeros(rows, jnp.int32)
  state = State(
    prompts=(models.kept_by(model, rows, trunk),) * text.depth,
    new=(models.kept_by(model, *new),) * text.depth,
    lengths=none, count=none, alive=none > 0,
    keys=jnp.repeat(key[None], rows),
    seen=jnp.zeros((rows, seen), bool), stage=none,
    tokens=jnp.zeros(new, jnp.int32), logps=jnp.zeros(new, exact),
  )  # fmt: skip
  return _placed(state, mesh)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _admit(model, decoding, mesh, weights, state, batch, places, key):
  """Prompts into their slots, each with its first token; past them: nobody."""
  fresh, logits = begin(model, weights, batch, decoding, key, each=decoding.n)
  fresh = write(fresh, logits, decoding)
  trunk = batch.bucket.trunk
  own = lambda x: jnp.repeat(x, decoding.n, axis=0)
  set_ = lambda x, at, y: x.at[at].set(y, mode='drop')
  prompts = tuple(
    models.Cache(
      set_(old.k, (places, slice(None), slice(None), slice(trunk)), own(x.k)),
      set_(old.v, (places, slice(None), slice(trunk)), own(x.v)),
    )
    for old, x in zip(state.prompts, fresh.prompts, strict=True)
  )
  names = (
    'lengths', 'count', 'alive', 'keys', 'seen', 'stage', 'tokens', 'logps',
  )  # fmt: skip
  rest = {k: set_(getattr(state, k), places, getattr(fresh, k)) for k in names}
  return _placed(state._replace(prompts=prompts, **rest), mesh)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _run(model, decoding, mesh, weights, state, end, room, steps):
  """Tokens for all who go on, until `room` slots are free or `steps` over."""

  def going(carry):
    step, state = carry
    dead = (~state.alive).sum()
    return (step < steps) & state.alive.any() & (dead < room)

  def further(carry):
    step, state = carry
    state, logits = tick(model, weights, state, together=False)
    return step + 1, write(state, logits, decoding)

  state = state._replace(alive=state.alive & ~end)
  return _placed(jax.lax.while_loop(going, further, (0, state))[1], mesh)
