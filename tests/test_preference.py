"""Dense DPO: what must hold of it, whatever the numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax.batch import scored
from rlhfv_jax.objectives.preference import preference_loss, segment_score
from rlhfv_jax.objectives.sft import sft_loss

# One compilation a shape, whatever beta and gamma.
losses = jax.jit(preference_loss, static_argnames='normalize')
_PLAIN = dict(beta=0.1, gamma=1.0, normalize=False)
_DENSE = dict(beta=0.5, gamma=5.0, normalize=True)


def _margins(*arrays, **options):
  return losses(*arrays, **options)['rewards/margins'].value()


def value_and_grad(loss):
  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def values(means):
  return {name: float(mean.value()) for name, mean in means.items()}


def _random(seed, batch=4, length=12, scale=1.0):
  """Log-probs of policy and reference, and roles with a shared head."""
  rng = np.random.default_rng(seed)
  logps, ref = -scale * rng.exponential(size=(2, batch, length))
  roles = rng.integers(1, 3, (batch, 2, length))
  roles[:, :, :4] = 1
  roles[:, 0, 8:] = roles[:, 1, 4:8] = 0
  return jnp.float32(logps), jnp.float32(ref), jnp.int8(roles)


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
def test_at_the_reference_the_loss_is_ln_2(options):
  logps, _, roles = _random(0, scale=20)
  got = losses(logps, logps, roles, **options)['loss'].value()
  assert abs(got - math.log(2)) < 1e-6


def test_gamma_one_as_a_sum_is_plain_dpo():
  logps, ref, roles = _random(1)
  ratio = [((logps - ref) * (roles[:, c] > 0)).sum(axis=1) for c in (0, 1)]
  want = -jax.nn.log_sigmoid(0.1 * (ratio[0] - ratio[1])).mean()
  got = losses(logps, ref, roles, **_PLAIN)['loss'].value()
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_gamma_moves_corrected_tokens_only():
  logps, _, roles = _random(2)

  def chosen(x):
    return segment_score(x, roles, gamma=3.0, normalize=False)[:, 0].sum()

  want = np.choose(roles[:, 0], [0, 1, 3])
  np.testing.assert_array_equal(jax.grad(chosen)(logps), want)


def test_label_smoothing_expects_some_pairs_the_wrong_way_round():
  logps, ref, roles = _random(3)
  right = losses(logps, ref, roles, **_DENSE)['loss'].value()
  wrong = losses(logps, ref, roles[:, ::-1], **_DENSE)['loss'].value()
  got = losses(logps, ref, roles, **_DENSE, label_smoothing=0.3)['loss'].value()
  np.testing.assert_allclose(got, 0.7 * right + 0.3 * wrong, rtol=1e-6)


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
def test_the_margin_is_the_sum_of_its_two_parts(options):
  got = values(losses(*_random(4), **options))
  parts = got['rewards/margins_corrected'] + got['rewards/margins_unchanged']
  np.testing.assert_allclose(parts, got['rewards/margins'], rtol=1e-5)
  rewards = got['rewards/chosen'] - got['rewards/rejected']
  np.testing.assert_allclose(rewards, got['rewards/margins'], rtol=1e-5)
  assert abs(got['rewards/margins_corrected']) > 1e-3


@pytest.mark.parametrize(
  'role, own, other',
  [(1, 'unchanged', 'corrected'), (2, 'corrected', 'unchanged')],
)
def test_each_part_of_the_margin_sees_its_own_tokens(role, own, other):
  logps, ref, roles = _random(5)
  moved = jnp.where((roles == role).any(axis=1), logps, ref)
  got = values(losses(moved, ref, roles, **_DENSE))
  assert abs(got[f'rewards/margins_{own}']) > 1e-3
  assert abs(got[f'rewards/margins_{other}']) < 1e-6


def test_a_shared_head_cancels_in_the_sum_and_not_in_the_average():
  logps, ref, roles = _random(6)
  roles = roles.at[:, 0].min(1)  # so that the averages divide by unequal sums
  moved = logps.at[:, :4].add(-1.0)
  before, after = (_margins(x, ref, roles, **_PLAIN) for x in (logps, moved))
  np.testing.assert_allclose(before, after, rtol=1e-5)
  before, after = (_margins(x, ref, roles, **_DENSE) for x in (logps, moved))
  assert abs(before - after) > 1e-3


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
def test_micro_batches_add_exactly(options):
  whole = _random(7)
  parts = [tuple(x[i : i + 2] for x in whole) for i in (0, 2)]
  a, b = (losses(*part, **options, sft_weight=0.2) for part in parts)
  for name, mean in losses(*whole, **options, sft_weight=0.2).items():
    added = a[name] + b[name]
    assert added.count == mean.count == 4
    np.testing.assert_allclose(added.total, mean.total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
@pytest.mark.parametrize('silent', [[0, 1], [0], [1]])
def test_a_row_without_a_pair_counts_nothing(options, silent):
  """Nor does what stands in its slots, a NaN or an infinity included."""
  logps, ref, roles = _random(8)
  roles = roles.at[1, jnp.array(silent)].set(0)
  unscored = ~scored(roles)
  poisoned = jnp.where(unscored, jnp.nan, logps)
  ref = jnp.where(unscored, -jnp.inf, ref)

  def loss(x):
    means = losses(x, ref, roles, **options, sft_weight=0.1)
    return means['loss'].value(), means

  (_, means), grad = value_and_grad(loss)(poisoned)
  rest = [x[jnp.array([0, 2, 3])] for x in (logps, ref, roles)]
  for name, want in losses(*rest, **options, sft_weight=0.1).items():
    assert means[name].count == 3
    close = dict(rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(means[name].total, want.total, **close)
  assert not grad[1].any() and grad[0].any() and jnp.isfinite(grad).all()


def test_a_batch_of_rows_that_count_nothing_is_zero():
  logps, ref, roles = _random(9)
  roles = jnp.zeros_like(roles)
  for loss in (
    lambda x: losses(x, ref, roles, **_DENSE)['loss'].value(),
    lambda x: sft_loss(x, roles)['loss'].value(),
  ):
    value, grad = jax.value_and_grad(loss)(logps)
    assert value == 0 and not grad.any()


def test_beta_and_gamma_are_traced():
  logps, ref, roles = _random(10)
  traces = []

  @jax.jit
  def loss(**hyper):
    traces.append(hyper)
    return preference_loss(logps, ref, roles, normalize=True, **hyper)['loss']

  for beta, gamma in [(0.1, 1), (0.1, 5), (2, 1), (2, 5)]:
    got = loss(beta=jnp.float32(beta), gamma=jnp.float32(gamma))
    want = preference_loss(
      logps, ref, roles, beta=beta, gamma=gamma, normalize=True
    )['loss']
    np.testing.assert_allclose(got.total, want.total, rtol=1e-6)
  assert len(traces) == 1


def test_bfloat16_log_probs_are_subtracted_in_float32():
  logps, ref, roles = _random(11, scale=30)
  logps, ref = logps.astype(jnp.bfloat16), ref.astype(jnp.bfloat16)
  got = _margins(logps, ref, roles, **_DENSE)
  wide = (x.astype(jnp.float32) for x in (logps, ref))
  assert got.dtype == jnp.float32
  assert got == _margins(*wide, roles, **_DENSE)


def test_a_preference_is_between_two_answers():
  logps, ref, roles = _random(12)
  with pytest.raises(ValueError, match='between 2 answers, roles has 1'):
    preference_loss(logps, ref, roles[:, :1], **_DENSE)


def test_sft_is_the_mean_over_scored_tokens_of_the_first_answer():
  logps, _, roles = _random(13)
  mean = sft_loss(logps, roles)['loss']
  counted = np.asarray(roles[:, 0] > 0)
  assert mean.count == counted.sum()
  want = -np.asarray(logps)[counted].mean()
  np.testing.assert_allclose(mean.value(), want, rtol=1e-6)
  poisoned = jnp.where(counted, logps, jnp.nan)
  grad = jax.grad(lambda x: sft_loss(x, roles)['loss'].total)(poisoned)
  np.testing.assert_array_equal(grad, -counted.astype(np.float32))
