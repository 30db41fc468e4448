"""The benchmark itself, at a size of seconds: the sides must do the same."""

import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from runs import ENV, ROOT

from launch.speed import flops, pairs, report, sizes
from launch.speed.__main__ import wanted
from rlhfv_jax import models
from rlhfv_jax.batch import Batch

TINY = sizes.SIZES['tiny']


# Most of the time is compilation.
QUICK = ENV | {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}


def speed(*args):
  return subprocess.run(
    [sys.executable, '-m', 'launch.speed', '--size=tiny', *args], env=QUICK,
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip


@pytest.mark.slow
def test_a_plain_torch_step_is_the_same_step_and_both_are_timed(tmp_path):
  args = '--peer=torch', '--only=step,trunk', '--steps=3', '--json'
  done = speed(*args, f'--folder={tmp_path}')
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)['measured']
  sides = [*found['ours'], found['torch'], found['two-rows']]
  assert len(found['ours']) == 3
  for side in sides:
    # Every side took the same steps: the losses after them are the same.
    np.testing.assert_allclose(side['loss'], sides[0]['loss'], rtol=1e-3)
    assert 0 < side['least'] <= side['seconds'] <= side['most']
    assert side['peak_mib'] > 10
  assert sides[0]['loss'][0] == pytest.approx(np.log(2), rel=1e-5)
  assert sides[0]['loss'][-1] < sides[0]['loss'][0]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('trl'), reason='needs trl')
def test_trl_takes_the_same_steps_as_it_ships_and_at_its_best():
  done = speed('--peer=trl', '--only=step', '--steps=2')
  assert done.returncode == 0, done.stderr
  for setting in ('shipped', 'best'):
    assert f'times as fast as trl-{setting}' in done.stdout


def test_what_is_around_the_step_has_a_line_each():
  done = speed('--only=decode,input,save', '--steps=2')
  assert done.returncode == 0, done.stderr
  lines = [line.partition(':')[0] for line in done.stdout.splitlines()]
  assert lines == ['decode', 'input', 'save']


def test_sides_that_do_not_do_the_same_are_told_apart():
  ours = {'logps': [-5.0, -6.0], 'grad_norm': [2.0], 'loss': [0.693, 0.6]}
  report.agree(TINY, ours, ours, 'torch')
  theirs = ours | {'loss': [0.693, 0.65]}
  with pytest.raises(ValueError, match='loss number 1 is 0.65 there and 0.6'):
    report.agree(TINY, ours, theirs, 'torch')


@pytest.mark.parametrize(
  'args, message',
  [
    (['--peer=tlr'], 'one of none, torch, trl'),
    (['--only=stpe'], 'one of step, trunk, decode'),
    (['--trunk=9'], 'a picture takes 16 of the trunk'),
    (['--answer=400'], 'reach past position 128'),
    (['--pairs=3', '--micro=2'], '3 pairs in 2 micro-batches'),
  ],
)
def test_a_wrong_argument_is_answered_by_a_sentence(args, message):
  done = speed(*args)
  assert done.returncode and 'Traceback' not in done.stderr
  assert message in done.stderr


def test_a_peer_that_is_not_installed_says_how_to_get_it(monkeypatch):
  found = importlib.util.find_spec
  lacking = lambda name: None if name == 'trl' else found(name)
  monkeypatch.setattr(importlib.util, 'find_spec', lacking)
  with pytest.raises(ValueError, match=r"pip install 'rlhfv_jax\[speed\]'"):
    wanted(['trl'], ['step'])
  assert wanted(['none'], None)[0] == []


def products(jaxpr):
  """Floating-point operations of all products in a jaxpr, scans counted."""
  total = 0
  for eqn in jaxpr.eqns:
    times = eqn.params.get('length', 1) if eqn.primitive.name == 'scan' else 1
    if eqn.primitive.name == 'dot_general':
      (inner, _), _ = eqn.params['dimension_numbers']
      a = eqn.invars[0].aval.shape
      total += 2 * eqn.outvars[0].aval.size * np.prod([a[i] for i in inner])
    for value in jax.tree.leaves(
      list(eqn.params.values()), is_leaf=lambda x: hasattr(x, 'jaxpr')
    ):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        total += times * products(inner)
  return total


@pytest.mark.parametrize('shared', [True, False])
def test_the_count_of_operations_is_that_of_the_program(shared):
  size = TINY
  made = (pairs.trunks if shared else pairs.rows)(pairs.draw(size), size)
  bucket = (size.trunk, size.answer, 2)
  if not shared:
    bucket = size.trunk + size.answer, 0, 1
  model = models.build(size.model | {'attention': 'xla'})
  like = jax.eval_shape(lambda k: models.init(model, k), jax.random.key(0))

  def logits(params, batch):
    states = models.hidden(model, params, batch)
    return model.apply({'params': params}, states, method='logits')

  traced = jax.make_jaxpr(logits)(like, Batch(made, bucket))
  found = products(traced.jaxpr) / size.pairs
  # This program also multiplies what is masked, and the head sees every token.
  c = size.config.text
  rows, length = made['tokens'].shape
  masked = 4 * c.depth * c.width * length**2 * rows / size.pairs
  unscored = length * rows / size.pairs - 2 * size.answer
  expected = flops.pair(size, shared=shared) / 3
  expected += masked - flops.attention(size, shared)
  expected += 2 * c.width * c.vocab_size * unscored
  assert found == pytest.approx(expected, rel=0.01)
