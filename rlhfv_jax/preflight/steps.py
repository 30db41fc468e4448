"""The steps that a run takes, compiled from shapes alone.

They are made by what makes them in a run: the same loss, optimizer, sharding
and options, over a mesh of chips that are not here.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhfv_jax import scoring, sharding, train
from rlhfv_jax.batch import Batch, Bucket
from rlhfv_jax.generate import Decoding, serving
from rlhfv_jax.models import unrolled
from rlhfv_jax.preflight import once
from rlhfv_jax.stages import problem
from rlhfv_jax.train import adapt, session

GIB = 2**30


class Built(NamedTuple):
  """A compiled step, or why there is none; memory is GiB of one chip."""

  fits: bool
  peak: float  # what it takes at once; if it does not fit, what it would take
  arguments: float = 0.0
  temporaries: float = 0.0
  reused: float = 0.0  # of the arguments, for the results
  seconds: float = 0.0  # of compilation, or of finding it done
  text: str = ''


def default_bucket(s: problem.Setup) -> Bucket:
  """Where no data says: a question and an answer of RLHF-V's lengths."""
  return Bucket(-(-(s.model.config.image_tokens + 96) // 32) * 32, 128, 2)


def batch(s: problem.Setup, bucket: Bucket, rows: int) -> Batch:
  """A batch as shapes, where it would live."""
  length = bucket.length
  arrays = {
    'tokens': ((rows, length), jnp.int32),
    'lengths': ((rows, 1 + bucket.answers), jnp.int32),
    'roles': ((rows, bucket.answers, length), jnp.int8),
    'index': ((rows,), jnp.int32),
    'ref_logps': ((rows, length), jnp.float32),
  }
  if s.model.config.vision is not None:
    size = s.model.config.vision.image_size
    arrays['images'] = ((rows, size, size, 3), jnp.uint8)
  place = NamedSharding(s.mesh, sharding.BATCH)
  return Batch(
    {k: jax.ShapeDtypeStruct(*v, sharding=place) for k, v in arrays.items()},
    bucket,
  )


def training(
  s: problem.Setup,
  bucket: Bucket,
  rows: int,
  *,
  loss: train.Loss | None = None,
) -> Built:
  """The step that trains, by the loss of the config or by another."""
  begin = problem.start(s)
  config = problem.overridden(s.config.train, {'rules': begin.rules})
  params = adapt.abstract(problem.abstract_params(s), begin, s.mesh)
  if loss is None:
    made = problem.program(s, s.config.objective, config, params)
  else:
    made = session.program(loss, params, config, s.mesh)
  state = train.abstract_state(params, made.tx, made.labels, s.mesh)
  whole = NamedSharding(s.mesh, P())
  number = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
  names = ('learning_rate', *problem.TRACED)
  hyper = {k: number for k in names}
  return built(
    s.mesh, lambda: made.train_step.lower(state, batch(s, bucket, rows), hyper)
  )


def reference(s: problem.Setup, bucket: Bucket, rows: int) -> Built:
  """The step that scores the reference."""
  begin = dataclasses.replace(problem.start(s), rank=0)
  params = adapt.abstract(problem.abstract_params(s), begin, s.mesh)
  given = batch(s, bucket, rows)
  given = Batch({k: v for k, v in given.items() if k != 'ref_logps'}, bucket)
  step = scoring.scorer(s.model, s.mesh)
  return built(s.mesh, lambda: step.lower(params, given))


def decoding(s: problem.Setup, trunk: int, slots: int, new: int) -> Built:
  """The loop that writes `new` tokens behind prompts of `trunk` tokens."""
  how = Decoding(max_new=new, stop=(2,))
  weights = unrolled.abstract(s.model, problem.abstract_params(s))
  return built(
    s.mesh,
    lambda: serving.lowered(
      s.model, weights, how, slots=slots, trunk=trunk, mesh=s.mesh
    ),
  )


def built(mesh: Mesh, lower: Callable[[], Any]) -> Built:
  """Compiles what is lowered under the mesh, if no file has what it takes."""
  start = time.time()
  # Its chips can be compiled for and not computed on: no mesh for what runs.
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    lowered = lower()
    found = once.kept(lowered, mesh, lambda: _compiled(lowered))
  return Built(**found, seconds=time.time() - start)


def _compiled(lowered):
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    taken = re.findall(
      r'(?:[Uu]sed |temporaries \()([\d.]+)([KMGT])', str(error)
    )
    if 'RESOURCE_EXHAUSTED' not in str(error) or not taken:
      raise
    number, unit = taken[0]
    size = float(number) * {'K': 2**-20, 'M': 2**-10, 'G': 1, 'T': 2**10}[unit]
    return {'fits': False, 'peak': size}
  memory = compiled.memory_analysis()
  return {
    'fits': True,
    'peak': memory.peak_memory_in_bytes / GIB,
    'arguments': memory.argument_size_in_bytes / GIB,
    'temporaries': memory.temp_size_in_bytes / GIB,
    'reused': memory.alias_size_in_bytes / GIB,
    'text': compiled.as_text(),
  }
