"""Bradley-Terry with a centring term, held against NumPy and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax.metrics import Mean
from rlhfv_jax.objectives.reward import reward_loss, reward_loss_original

torch = pytest.importorskip('torch')
BOTH = (reward_loss, reward_loss_original)


def scores(seed=0, rows=7, scale=2.0):
  rng = np.random.default_rng(seed)
  return rng.normal(0.3, scale, (rows, 2)).astype(np.float32)


def value_and_grad(loss, r, valid=None, centring=0.01):
  def mean(r):
    return loss(r, valid, centring=centring)['loss'].value()

  return jax.value_and_grad(mean)(jnp.asarray(r))


@pytest.mark.parametrize('loss', BOTH)
@pytest.mark.parametrize('centring', [0.0, 1e-3, 0.5])
def test_the_loss_is_that_of_a_loop_over_pairs(loss, centring):
  r = scores().astype(np.float64)
  ranking = [np.log1p(np.exp(-(a - b))) for a, b in r]
  squares = [(a + b) ** 2 for a, b in r]
  off = np.mean(squares)
  if loss is reward_loss_original:
    off = abs(np.mean([a + b for a, b in r]))
  found = loss(scores(), centring=centring)
  told = {
    'loss': np.mean(ranking) + centring * off,
    'loss/ranking': np.mean(ranking),
    'loss/centring': off,
    'rewards/chosen': r[:, 0].mean(),
    'rewards/rejected': r[:, 1].mean(),
    'rewards/margins': (r[:, 0] - r[:, 1]).mean(),
    'rewards/accuracies': np.mean([a > b for a, b in r]),
  }
  assert found.keys() == told.keys()
  for name, value in told.items():
    np.testing.assert_allclose(found[name].value(), value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('loss', BOTH)
def test_value_and_gradient_are_torchs(loss):
  theirs = torch.tensor(scores().astype(np.float64), requires_grad=True)
  # The published form: which of two is better, by the difference of scores.
  first = torch.nn.functional.binary_cross_entropy_with_logits(
    theirs[:, 1] - theirs[:, 0], torch.zeros(len(theirs), dtype=torch.float64)
  )
  total = theirs.sum(1)
  off = total.mean().abs() if loss is reward_loss_original else (
    total.square().mean()
  )  # fmt: skip
  (first + 0.01 * off).backward()
  value, grad = value_and_grad(loss, scores())
  np.testing.assert_allclose(value, (first + 0.01 * off).item(), rtol=1e-6)
  np.testing.assert_allclose(grad, theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('loss', BOTH)
def test_filler_counts_nothing_and_gives_no_gradient(loss):
  r = np.concatenate([scores(), [[np.nan, 5.0]]]).astype(np.float32)
  valid = jnp.arange(len(r)) < len(r) - 1
  value, grad = value_and_grad(loss, r, valid)
  alone, own = value_and_grad(loss, scores())
  np.testing.assert_allclose(value, alone, rtol=1e-6)
  np.testing.assert_allclose(grad[:-1], own, rtol=1e-6)
  assert (np.asarray(grad[-1]) == 0).all()


@pytest.mark.parametrize('loss', BOTH)
def test_nothing_at_all_is_zero(loss):
  value, grad = value_and_grad(loss, scores(), jnp.zeros(7, bool))
  assert value == 0 and (np.asarray(grad) == 0).all()


def test_micro_batches_add_up_but_for_the_original():
  def parts(loss):
    each = [loss(r, centring=0.5)['loss'] for r in (scores()[:3], scores()[3:])]
    return (each[0] + each[1]).value()

  whole = [loss(scores(), centring=0.5)['loss'].value() for loss in BOTH]
  np.testing.assert_allclose(parts(reward_loss), whole[0], rtol=1e-6)
  assert abs(parts(reward_loss_original) - whole[1]) > 1e-3


def test_float64_is_not_cast_down():
  with jax.enable_x64(True):
    found = reward_loss(jnp.asarray(scores(), jnp.float64), centring=0.1)
    assert found['loss'].total.dtype == jnp.float64


def test_zero_scores_cost_ln_2():
  found = reward_loss(jnp.zeros((3, 2)), centring=1.0)
  np.testing.assert_allclose(found['loss'].value(), np.log(2), rtol=1e-6)
  assert isinstance(found['loss'], Mean)
  assert found['rewards/accuracies'].value() == 0


@pytest.mark.parametrize('shape', [(4,), (4, 3)])
def test_a_ranking_is_of_two(shape):
  with pytest.raises(ValueError, match='of 2 answers'):
    reward_loss(jnp.zeros(shape), centring=0.0)
