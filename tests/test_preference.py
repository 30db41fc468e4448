"""Dense DPO: the original's numbers in float64, and what must hold of them."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax.batch import scored
from rlhfv_jax.models import logps_from_logits
from rlhfv_jax.objectives.preference import preference_loss, segment_score
from rlhfv_jax.objectives.sft import sft_loss

# One compilation a shape, whatever beta and gamma.
_loss = jax.jit(preference_loss, static_argnames='normalize')
_PLAIN = dict(beta=0.1, gamma=1.0, normalize=False)
_DENSE = dict(beta=0.5, gamma=5.0, normalize=True)


def _margins(*arrays, **options):
  return _loss(*arrays, **options)['rewards/margins'].value()


def _cases(name):
  path = Path(__file__).parent / 'golden' / f'ddpo_{name}.json'
  return json.loads(path.read_text())['cases']


def _pairs(chosen, rejected):
  """[B,1,L] and [B,1,M] roles -> [B,2,L+M]: both answers in one row."""
  return jnp.stack(
    [
      jnp.pad(chosen, ((0, 0), (0, rejected.shape[1]))),
      jnp.pad(rejected, ((0, 0), (chosen.shape[1], 0))),
    ],
    axis=1,
  )


def _value_and_grad(loss):
  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def _values(means):
  return {name: float(mean.value()) for name, mean in means.items()}


def _random(seed, batch=4, length=12, scale=1.0):
  """Log-probs of policy and reference, and roles with a shared head."""
  rng = np.random.default_rng(seed)
  logps, ref = -scale * rng.exponential(size=(2, batch, length))
  roles = rng.integers(1, 3, (batch, 2, length))
  roles[:, :, :4] = 1
  roles[:, 0, 8:] = roles[:, 1, 4:8] = 0
  return jnp.float32(logps), jnp.float32(ref), jnp.int8(roles)


# What the original returns.


@pytest.mark.parametrize('case', _cases('logps'))
def test_scores_of_the_original(case):
  with jax.enable_x64(True):
    labels = jnp.array(case['labels'])[:, 1:]
    logits = jnp.array(case['logits'], jnp.float64)[:, :-1]
    logps = logps_from_logits(logits, labels)
    weight = jnp.array(case['token_weight'])
    gamma = float(weight.max())
    roles = jnp.where(weight == gamma, 2, 1) * (labels >= 0)
    want = case['expected']
    close = dict(rtol=0, atol=1e-10)
    np.testing.assert_allclose(logps, want['per_token_logps'], **close)
    for name, weigh, normalize in (
      ('log_prob', 1.0, False),
      ('average_log_prob', 1.0, True),
      ('weighted_logp', gamma, False),
      ('weighted_average_logp', gamma, True),
    ):
      got = segment_score(
        logps, roles[:, None], gamma=weigh, normalize=normalize
      )
      assert got.dtype == jnp.float64
      np.testing.assert_allclose(got[:, 0], want[name], err_msg=name, **close)


@pytest.mark.parametrize('case', _cases('dpo_loss'))
def test_dpo_of_the_original_at_ordinary_and_extreme_values(case):
  """Answers of one token, whose log-prob is the whole answer's."""
  with jax.enable_x64(True):
    sides, roles = ('chosen', 'rejected'), jnp.eye(2, dtype=jnp.int8)
    policy, reference = (
      jnp.array([case[f'{model}_{side}_logps'] for side in sides]).T
      for model in ('policy', 'reference')
    )

    @jax.vmap
    def each(policy, reference):
      row = policy[None], reference[None], roles[None]
      return _loss(*row, beta=case['beta'], gamma=1.0, normalize=False)

    means, free = each(policy, reference), each(policy, jnp.zeros_like(policy))
    loss = (free if case['reference_free'] else means)['loss']
    want, close = case['expected'], dict(rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(loss.total, want['losses'], **close)
    np.testing.assert_allclose(loss.total.mean(), want['mean_loss'], **close)
    for side in sides:
      got = means[f'rewards/{side}'].total
      np.testing.assert_allclose(got, want[f'{side}_rewards'], **close)
    accuracy = means['rewards/accuracies'].total.mean()
    np.testing.assert_allclose(accuracy, want['reward_accuracy'], **close)


@pytest.mark.parametrize('case', _cases('trainer_loss'))
def test_the_whole_loss_of_the_original_and_its_gradient(case):
  with jax.enable_x64(True):
    inputs, want = case['inputs'], case['expected']
    labels = jnp.array(inputs['concatenated_labels'])[:, 1:]
    weight = jnp.array(inputs['concatenated_token_weight'])
    pairs, length = len(labels) // 2, labels.shape[1]
    roles = jnp.where(weight != 1, 2, 1) * (labels >= 0)
    roles = _pairs(roles[:pairs], roles[pairs:])
    ref = [jnp.array(inputs[f'ref_{s}_per_token_logp']) for s in ('win', 'rej')]
    pad = [jnp.zeros((pairs, length - x.shape[1])) for x in ref]
    ref = jnp.concatenate([ref[0], pad[0], ref[1], pad[1]], axis=1)

    def loss(logits):
      logps = logps_from_logits(logits[:, :-1], labels)
      means = preference_loss(
        jnp.concatenate([logps[:pairs], logps[pairs:]], axis=1),
        ref,
        roles,
        beta=case['beta'],
        gamma=case['mod_token_weight'] if case['dpo_token_weighted'] else 1.0,
        normalize=case['dpo_use_average'],
        sft_weight=case['SFT_weight'],
        dpo_weight=case['DPO_weight'],
      )
      return means['loss'].value(), means

    logits = jnp.array(inputs['concatenated_logits'], jnp.float64)
    (value, means), grad = _value_and_grad(loss)(logits)
    close = dict(rtol=0, atol=1e-9)
    np.testing.assert_allclose(value, want['loss'], **close)
    np.testing.assert_allclose(grad, want['grad_logits'], **close)
    got, compared = _values(means), 0
    for name, theirs in want['metrics'].items():
      ours = name.replace('_train', '')
      if ours in got:
        np.testing.assert_allclose(got[ours], theirs, err_msg=ours, **close)
        compared += 1
    assert compared == 6


# What must hold of any numbers.


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
def test_at_the_reference_the_loss_is_ln_2(options):
  logps, _, roles = _random(0, scale=20)
  got = _loss(logps, logps, roles, **options)['loss'].value()
  assert abs(got - math.log(2)) < 1e-6


def test_gamma_one_as_a_sum_is_plain_dpo():
  logps, ref, roles = _random(1)
  ratio = [((logps - ref) * (roles[:, c] > 0)).sum(axis=1) for c in (0, 1)]
  want = -jax.nn.log_sigmoid(0.1 * (ratio[0] - ratio[1])).mean()
  got = _loss(logps, ref, roles, **_PLAIN)['loss'].value()
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_gamma_moves_corrected_tokens_only():
  logps, _, roles = _random(2)

  def chosen(x):
    return segment_score(x, roles, gamma=3.0, normalize=False)[:, 0].sum()

  want = np.choose(roles[:, 0], [0, 1, 3])
  np.testing.assert_array_equal(jax.grad(chosen)(logps), want)


def test_label_smoothing_expects_some_pairs_the_wrong_way_round():
  logps, ref, roles = _random(3)
  right = _loss(logps, ref, roles, **_DENSE)['loss'].value()
  wrong = _loss(logps, ref, roles[:, ::-1], **_DENSE)['loss'].value()
  got = _loss(logps, ref, roles, **_DENSE, label_smoothing=0.3)['loss'].value()
  np.testing.assert_allclose(got, 0.7 * right + 0.3 * wrong, rtol=1e-6)


@pytest.mark.parametrize('options', [_PLAIN, _DENSE])
def test_the_margin_is_the_sum_of_its_two_parts(options):
  got = _values(_loss(*_random(4), **options))
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
  got = _values(_loss(moved, ref, roles, **_DENSE))
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
  a, b = (_loss(*part, **options, sft_weight=0.2) for part in parts)
  for name, mean in _loss(*whole, **options, sft_weight=0.2).items():
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
    means = _loss(x, ref, roles, **options, sft_weight=0.1)
    return means['loss'].value(), means

  (_, means), grad = _value_and_grad(loss)(poisoned)
  rest = [x[jnp.array([0, 2, 3])] for x in (logps, ref, roles)]
  for name, want in _loss(*rest, **options, sft_weight=0.1).items():
    assert means[name].count == 3
    close = dict(rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(means[name].total, want.total, **close)
  assert not grad[1].any() and grad[0].any() and jnp.isfinite(grad).all()


def test_a_batch_of_rows_that_count_nothing_is_zero():
  logps, ref, roles = _random(9)
  roles = jnp.zeros_like(roles)
  for loss in (
    lambda x: _loss(x, ref, roles, **_DENSE)['loss'].value(),
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
