"""The benchmark itself, at a size of seconds: the sides must do the same."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from runs import ENV, ROOT

from launch.speed import flops, pairs, report, sizes
from launch.speed.__main__ import wanted
from launch.speed.settings import DECODER
from rlhfv_jax import models
from rlhfv_jax.batch import Batch
from rlhfv_jax.models import lora

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


def test_a_real_model_is_told_its_share_of_the_card_and_its_schedule():
  size = sizes.SIZES['7b']
  turn = {'seconds': 0.4, 'least': 0.4, 'most': 0.4, 'processors': 0.4,
          'peak_mib': 1.0, 'loss': [0.6], 'device': 'NVIDIA H200',
          'devices': 1}  # fmt: skip
  said = report.text(size, {'ours': [turn], 'products': {'rate': 700e12}})
  share = flops.pair(size) * 8 / 0.4 / 989e12
  assert f'MFU {share:.1%} of 989' in said
  assert "RLHF-V's 9800 pairs, 7 epochs of 1400, take 8.17 minutes" in said


@pytest.mark.parametrize(
  'args, message',
  [
    (['--peer=tlr'], 'one of none, torch, trl'),
    (['--only=stpe'], 'one of step, trunk, decode'),
    (['--trunk=9'], 'a picture takes 16 of the trunk'),
    (['--answer=400'], 'reach past position 128'),
    (['--pairs=3', '--micro=2'], '3 pairs in 2 micro-batches'),
    (['--size=13b', '--peer=torch'], 'adamw and this size with adafactor'),
    (['--size=rlhfv', '--peer=torch'], 'no model with this tower'),
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


MUFFIN = dataclasses.replace(TINY, model=TINY.model | {
  'vision': dict(kind='beit3', image_size=56, patch=14, width=32, mlp=64,
                 depth=2, heads=2, queries=16),
  'connector': 'linear',
})  # fmt: skip
ADAPTED = dataclasses.replace(TINY, rank=4)


def program(size, *, shared, train=False):
  """Operations a pair of all logits, and back to the adapters if trained."""
  made = (pairs.trunks if shared else pairs.rows)(pairs.draw(size), size)
  bucket = (size.trunk, size.answer, 2)
  if not shared:
    bucket = size.trunk + size.answer, 0, 1
  model = models.build(size.model | {'attention': 'xla'})

  def fresh(key):
    params = models.init(model, key)
    return lora.attach(
      params, key, rank=size.rank, alpha=1.0, targets=DECODER
    ) if size.rank else params  # fmt: skip

  def logits(params):
    states = models.hidden(model, params, Batch(made, bucket))
    return model.apply({'params': params}, states, method='logits')

  def back(params):
    flat = flatten_dict(params)
    ours = {k: v for k, v in flat.items() if k[-1] in ('lora_a', 'lora_b')}
    loss = lambda x: jnp.square(logits(unflatten_dict(flat | x))).sum()
    return jax.grad(loss)(ours)

  like = jax.eval_shape(fresh, jax.random.key(0))
  traced = jax.make_jaxpr(back if train else logits)(like)
  return products(traced.jaxpr) / size.pairs, made['tokens'].shape


@pytest.mark.parametrize(
  'size, shared', [(TINY, True), (TINY, False), (MUFFIN, True)]
)
def test_the_count_of_operations_is_that_of_the_program(size, shared):
  found, shape = program(size, shared=shared)
  masked, unscored = beyond(size, shape, shared)
  expected = flops.pair(size, shared=shared) / 3 + masked + unscored
  assert found == pytest.approx(expected, rel=0.01)


def test_adapters_are_counted_without_the_gradients_that_nobody_needs():
  found, shape = program(ADAPTED, shared=True, train=True)
  masked, unscored = beyond(ADAPTED, shape, shared=True)
  expected = flops.pair(ADAPTED) + 3 * masked + 2 * unscored
  assert found == pytest.approx(expected, rel=0.01)


def beyond(size, shape, shared):
  """What that program multiplies more: masked keys, and the head everywhere."""
  c = size.config.text
  rows, length = shape
  masked = 4 * c.depth * c.width * length**2 * rows / size.pairs
  unscored = length * rows / size.pairs - 2 * size.answer
  return (
    masked - flops.attention(size, shared),
    2 * c.width * c.vocab_size * unscored,
  )
