"""The head: log-probs where something is scored, never the logits of all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from test_models import (
  IMAGE,
  TEXT,
  V,
  assert_close_leaves,
  ids,
  made,
  pairs,
  pictures,
  randoms,
  token_logps,
  trunks,
)

from rlhfv_jax import models
from rlhfv_jax.batch import Batch, layout


def test_scored_are_roles_or_else_all_words_that_something_predicts():
  model, params = made()
  rng = randoms(3)
  batch = trunks(pairs(rng, 4), pictures(rng, 4))
  logps = token_logps(model, params, batch)
  some = (batch['roles'] > 0).any(1)
  assert (logps[~some] == 0).all() and (logps[some] < 0).all()
  del batch['roles']
  every = token_logps(model, params, batch)
  parent, _, branch = layout(batch['lengths'], batch.bucket)
  words = (parent >= 0) & (branch >= 0) & (batch['tokens'] != IMAGE)
  assert ((every < 0) == words).all()
  np.testing.assert_allclose(every[some], logps[some], atol=1e-5)


@pytest.mark.parametrize('tie, chunk', [(False, 1), (False, 100), (True, 4)])
def test_the_head_in_chunks_equals_the_whole_head(tie, chunk):
  model = models.build(dict(text={**TEXT, 'tie_head': tie}))
  params = made('reads')[1]
  rng = randoms(4)
  bucket, lengths = (9, 5, 2), np.array([[7, 5, 2], [9, 1, 4]], np.int32)
  batch = Batch({'tokens': ids(rng, (2, 19)), 'lengths': lengths}, bucket)
  batch['roles'] = (rng.random((2, 2, 19)) < 0.4).astype(np.int8)
  parent, _, branch = layout(lengths, batch.bucket)
  counts = (batch['roles'] > 0).any(1) & (branch >= 0) & (parent >= 0)
  weight = jnp.array(rng.normal(size=counts.shape), jnp.float32)
  states = jnp.array(rng.normal(size=(2, 19, 32)), jnp.float32)

  def whole(params, states):
    logits = model.apply({'params': params}, states, method='logits')
    logits = logits[np.arange(2)[:, None], np.maximum(parent, 0)]
    logps = jax.nn.log_softmax(logits)
    logps = jnp.take_along_axis(logps, batch['tokens'][..., None], -1)[..., 0]
    return (weight * jnp.where(counts, logps, 0)).sum()

  def chunked(params, states):
    logps = models.logps_of_hidden(
      model, params, batch, states=states, chunk=chunk
    )
    return (weight * logps).sum()

  a, got, b, expected = (
    x
    for f in (chunked, whole)
    for x in jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, states)
  )
  np.testing.assert_allclose(a, b, rtol=1e-5)
  assert_close_leaves(got, expected)


def traced(function, *args):
  """Shapes of all arrays in the jaxpr."""
  shapes = set()

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      shapes.update(v.aval.shape for v in eqn.outvars)
      for inner in jaxprs_in_params(eqn.params):
        walk(inner)

  walk(jax.make_jaxpr(function)(*args).jaxpr)
  return shapes


def test_the_logits_of_all_tokens_never_exist():
  model, params = made('reads')
  rng = randoms(5)
  rows, length, chunk = 8, 38, 7
  lengths = np.array([[length, 0]] * rows, np.int32)
  batch = Batch(
    {'tokens': ids(rng, (rows, length)), 'lengths': lengths}, (length, 0, 1)
  )

  @jax.grad
  def chunked(params):
    return models.token_logps(model, params, batch, chunk=chunk).sum()

  @jax.grad
  def whole(params):
    states = models.hidden(model, params, batch)
    logits = model.apply({'params': params}, states, method='logits')
    return models.logps_from_logits(logits, batch['tokens']).sum()

  def most(shapes):
    """Rows of logits; weights have a vocabulary axis too, with fewer rows."""
    return max(np.prod(s) // V for s in shapes if V in s)

  assert most(traced(whole, params)) == rows * length
  assert most(traced(chunked, params)) == rows * chunk


def test_a_cpu_turns_no_logits_over_to_multiply_them():
  model, params = made('reads')
  rows, length, chunk = 8, 38, 7
  lengths = np.array([[length, 0]] * rows, np.int32)
  tokens = ids(randoms(5), (rows, length))
  batch = Batch({'tokens': tokens, 'lengths': lengths}, (length, 0, 1))

  @jax.jit
  @jax.grad
  def chunked(params):
    return models.token_logps(model, params, batch, chunk=chunk).sum()

  program = chunked.lower(params).compile().as_text()
  assert f'[{rows * chunk},{V}]' in program
  assert f'[{V},{rows * chunk}]' not in program


def test_logps_from_logits_are_aligned_and_never_lose_precision():
  rng = randoms(6)
  logits = rng.normal(size=(2, 3, V)) * 5
  chosen = ids(rng, (2, 3))
  chosen[0, 1] = -100
  shifted = logits - logits.max(-1, keepdims=True)
  log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  expected = np.take_along_axis(
    log_softmax, np.maximum(chosen, 0)[..., None], -1
  )[..., 0]
  with jax.enable_x64(True):
    logps = models.logps_from_logits(jnp.array(logits), jnp.array(chosen))
    assert logps.dtype == jnp.float64
    np.testing.assert_allclose(logps, expected, atol=1e-13)
  half = models.logps_from_logits(jnp.bfloat16(logits), jnp.array(chosen))
  assert half.dtype == jnp.float32


def test_half_precision_computes_in_it_and_sums_in_float32():
  model, params = made('reads', dtype='bfloat16')
  exact, _ = made('reads')
  rng = randoms(12)
  batch = trunks(pairs(rng, 4, image=False), pictures(rng, 4))
  states = jax.eval_shape(
    functools.partial(models.hidden, model), params, batch
  )
  assert states.dtype == jnp.bfloat16
  logps = token_logps(model, params, batch)
  assert logps.dtype == jnp.float32
  expected = token_logps(exact, params, batch)
  error = np.abs(logps - expected).max() / np.abs(expected).max()
  assert 1e-6 < error < 0.05
