"""The maths of PPO: against loops that read as the formulas do, and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax.objectives import ppo, ppo_original

B, L = 5, 11
GAMMA, LAM, BETA, CLIP, VALUE_CLIP = 0.97, 0.9, 0.3, 0.2, 0.25


def drawn(seed=0, dtype=np.float64):
  """Answers of several lengths, one of none, one with a gap in it."""
  rng = np.random.default_rng(seed)
  mask = np.zeros((B, L), bool)
  for b, (start, size) in enumerate([(2, 5), (0, 11), (10, 1), (4, 0), (3, 6)]):
    mask[b, start : start + size] = True
  mask[4, 5] = False
  draw = lambda *shape: rng.normal(size=shape).astype(dtype)
  return {
    'mask': mask, 'scores': 3 * draw(B), 'logps': -np.abs(draw(B, L)),
    'old_logps': -np.abs(draw(B, L)), 'ref_logps': -np.abs(draw(B, L)),
    'values': draw(B, L), 'old_values': draw(B, L), 'returns': draw(B, L),
    'advantages': draw(B, L),
  }  # fmt: skip


def words(mask):
  """For each row the slots of its tokens, in order."""
  return [np.flatnonzero(row) for row in mask]


def looped_rewards(x):
  out = np.zeros((B, L))
  for b, slots in enumerate(words(x['mask'])):
    for t in slots:
      out[b, t] = -BETA * (x['logps'][b, t] - x['ref_logps'][b, t])
    for t in slots[-1:]:
      out[b, t] += x['scores'][b]
  return out


def looped_advantages(rewards, values, mask):
  """The double sum of eq. 16: every delta of the future, discounted."""
  out = np.zeros((B, L))
  for b, slots in enumerate(words(mask)):
    for i, t in enumerate(slots):
      for j in range(i, len(slots)):
        here = slots[j]
        after = values[b, slots[j + 1]] if j + 1 < len(slots) else 0.0
        delta = rewards[b, here] + GAMMA * after - values[b, here]
        out[b, t] += (GAMMA * LAM) ** (j - i) * delta
  return out


def looped_whiten(x, mask):
  some = [x[b, t] for b, slots in enumerate(words(mask)) for t in slots]
  mean = sum(some) / len(some)
  deviation = (sum((v - mean) ** 2 for v in some) / len(some)) ** 0.5
  return np.where(mask, (x - mean) / (deviation + 1e-8), 0)


def looped_losses(x):
  policy, value, n = 0.0, 0.0, 0
  for b, slots in enumerate(words(x['mask'])):
    for t in slots:
      ratio = np.exp(x['logps'][b, t] - x['old_logps'][b, t])
      held = min(max(ratio, 1 - CLIP), 1 + CLIP)
      policy -= min(x['advantages'][b, t] * ratio, x['advantages'][b, t] * held)
      old, new = x['old_values'][b, t], x['values'][b, t]
      near = min(max(new, old - VALUE_CLIP), old + VALUE_CLIP)
      target = x['returns'][b, t]
      value += 0.5 * max((new - target) ** 2, (near - target) ** 2)
      n += 1
  return policy / n, value / n


@pytest.fixture(autouse=True)
def wide():
  with jax.enable_x64(True):
    yield


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def losses(x):
  policy = ppo.policy_loss(
    x['logps'], x['old_logps'], x['advantages'], x['mask'], clip=CLIP
  )
  value = ppo.value_loss(
    x['values'], x['old_values'], x['returns'], x['mask'], clip=VALUE_CLIP
  )
  return policy, value


def targets(x):
  kl = ppo.k1(x['logps'], x['ref_logps'])
  rewards = ppo.rewards(x['scores'], kl, x['mask'], beta=BETA)
  found = ppo.advantages(rewards, x['values'], x['mask'], gamma=GAMMA, lam=LAM)
  return rewards, *found, ppo.whiten(found[0], x['mask'])


def test_the_formulas_as_loops():
  x = drawn()
  rewards, advantages, returns, white = targets(x)
  close(rewards, looped_rewards(x))
  looped = looped_advantages(looped_rewards(x), x['values'], x['mask'])
  close(advantages, looped)
  close(returns, np.where(x['mask'], looped + x['values'], 0))
  close(white, looped_whiten(looped, x['mask']))
  policy, value = losses(x)
  close(
    [policy['ppo/policy/loss'].value(), value['val/loss'].value()],
    looped_losses(x),
  )


def test_the_formulas_in_torch():
  """Gradients too: nothing flows where a clip holds, nor off the mask."""
  torch = pytest.importorskip('torch')
  x = drawn(1)
  t = {k: torch.tensor(v) for k, v in x.items()}
  on = t['mask'].double()
  logps = t['logps'].requires_grad_()
  values = t['values'].requires_grad_()
  ratio = (logps - t['old_logps']).exp()
  gain = t['advantages']
  surrogate = torch.minimum(gain * ratio, gain * ratio.clamp(0.8, 1.2))
  policy = -(surrogate * on).sum() / on.sum()
  near = t['old_values'] + (values - t['old_values']).clamp(-0.25, 0.25)
  error = torch.maximum((values - t['returns']) ** 2,
                        (near - t['returns']) ** 2)  # fmt: skip
  value = 0.5 * (error * on).sum() / on.sum()
  (policy + 0.1 * value).backward()

  def total(logps, values):
    found = ppo.total(
      *losses(x | {'logps': logps, 'values': values}), value_coef=0.1
    )
    return found['loss'].value(), found

  (loss, found), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(
    x['logps'], x['values']
  )
  close(loss, (policy + 0.1 * value).detach())
  close(grads[0], logps.grad)
  close(grads[1], values.grad)
  held = (surrogate < gain * ratio) & t['mask']
  close(found['ppo/policy/clipfrac'].value(), held.double().sum() / on.sum())

  gap = torch.tensor(x['logps'] - x['ref_logps'])
  close(ppo.k2(x['logps'], x['ref_logps']), gap**2 / 2)
  close(ppo.k3(x['logps'], x['ref_logps']), torch.exp(-gap) - 1 + gap)

  # Rows of the packed tokens alone, padded at their end: another layout.
  rewards, advantages, _, white = targets(x)
  some = torch.tensor(np.asarray(advantages))[t['mask']]
  close(white[x['mask']], (some - some.mean()) / some.std(unbiased=False))
  for b, slots in enumerate(words(x['mask'])):
    run, after = torch.zeros(()), torch.zeros(())
    for slot in reversed(slots):
      value = t['values'][b, slot].detach()
      delta = float(rewards[b, slot]) + GAMMA * after - value
      run, after = delta + GAMMA * LAM * run, value
      close(advantages[b, slot], run)


def test_what_is_not_masked_in_counts_nowhere():
  x = drawn()
  dirty = {k: v.copy() for k, v in x.items()}
  for name, value in dirty.items():
    if value.shape == (B, L) and name != 'mask':
      value[~x['mask']] = np.nan
  for clean, bad in zip(targets(x), targets(dirty), strict=True):
    np.testing.assert_array_equal(clean, bad)

  def grads(x):
    def loss(logps, values):
      policy, value = losses(x | {'logps': logps, 'values': values})
      return ppo.total(policy, value, value_coef=1.0)['loss'].total

    return jax.grad(loss, (0, 1))(x['logps'], x['values'])

  for clean, bad in zip(grads(x), grads(dirty), strict=True):
    np.testing.assert_array_equal(clean, bad)


def test_a_batch_of_nothing_is_zero():
  x = drawn()
  x['mask'][:] = False
  assert not any(np.asarray(found).any() for found in targets(x))
  policy, value = losses(x)
  assert float(ppo.total(policy, value, value_coef=1.0)['loss'].value()) == 0


def test_gamma_and_lambda_1_are_the_sum_of_what_comes():
  x = drawn()
  rewards = np.asarray(looped_rewards(x))
  found, returns = ppo.advantages(
    rewards, x['values'], x['mask'], gamma=1.0, lam=1.0
  )
  ahead = np.where(x['mask'], np.cumsum(rewards[:, ::-1], 1)[:, ::-1], 0)
  close(returns, ahead)
  close(found, np.where(x['mask'], ahead - x['values'], 0))


def test_float64_stays_and_bfloat16_is_widened():
  for dtype, wants in ((np.float64, 'float64'), (jnp.bfloat16, 'float32')):
    x = {k: jnp.asarray(v, dtype) if v.dtype != bool else jnp.asarray(v)
         for k, v in drawn().items()}  # fmt: skip
    policy, value = losses(x)
    found = [*targets(x), policy['ppo/policy/loss'].total,
             value['val/loss'].total]  # fmt: skip
    assert {str(f.dtype) for f in found} == {wants}


def test_estimators_of_kl_agree_on_average():
  """Under samples of p: k1 and k3 have its mean, k2 nearly."""
  rng = np.random.default_rng(0)
  p, r = (rng.dirichlet(np.full(6, 20.0)) for _ in range(2))
  exact = float((p * np.log(p / r)).sum())
  weigh = lambda f: float((p * np.asarray(f(np.log(p), np.log(r)))).sum())
  assert weigh(ppo.k1) == pytest.approx(exact, abs=1e-12)
  assert weigh(ppo.k3) == pytest.approx(exact, abs=1e-12)
  assert weigh(ppo.k2) == pytest.approx(exact, rel=0.2)


def test_the_coefficient_follows_the_kl():
  adapt = lambda kl, **rate: ppo.adapted(0.1, kl, target=6.0, **rate)
  assert adapt(6.0) == pytest.approx(0.1)
  assert adapt(600.0) == pytest.approx(0.1 * 1.02)
  assert adapt(0.0) == pytest.approx(0.1 * 0.98)
  assert adapt(6.6) == pytest.approx(0.1 * 1.01)
  assert adapt(600.0, rate=0.0) == 0.1


# The original: its quirks, each by a loop of its own.


def test_original_answers_are_cut_at_their_end_and_at_a_question():
  end, spaced, plain = 2, 1577, 29973
  given = np.array([
    [5, 6, end, 7, 8, 9],  # what follows the end goes
    [5, spaced, 6, end, 7, 8],  # a question ends it, without an end
    [5, spaced, 6, plain, 7, 8],  # of both marks the plain one decides
    [5, 6, 7, 8, 9, 9],
  ])  # fmt: skip
  found = ppo_original.cut(given, end=end, questions=(spaced, plain))
  assert found.tolist() == [
    [5, 6, end, 0, 0, 0], [5, spaced, 0, 0, 0, 0],
    [5, spaced, 6, plain, 0, 0], [5, 6, 7, 8, 9, 9],
  ]  # fmt: skip


def test_original_targets():
  """A_t = 10 (R - beta sum of the KL to come) - V_t, padding and all."""
  x = drawn()
  kl = np.maximum(x['logps'] - x['ref_logps'], 0)
  close(ppo_original.kl(x['logps'], x['ref_logps']), kl)
  rewards = ppo_original.rewards(x['scores'], kl, beta=0.1)
  close(rewards[:, :-1], -kl[:, :-1])
  close(rewards[:, -1], 10 * x['scores'] - kl[:, -1])
  found, returns = ppo_original.advantages(
    rewards, x['values'], gamma=1.0, lam=1.0
  )
  ahead = np.cumsum(kl[:, ::-1], 1)[:, ::-1]
  close(found, 10 * (x['scores'][:, None] - 0.1 * ahead) - x['values'])
  close(returns, found + x['values'])
  close(
    ppo_original.whiten(found), (found - found.mean()) / (found.std() + 1e-8)
  )


def test_original_losses_are_means_over_all_slots():
  x = drawn()
  every = x | {'mask': np.ones((B, L), bool)}
  policy, value = looped_losses(every)
  found = ppo_original.policy_loss(
    x['logps'], x['old_logps'], x['advantages'], clip=CLIP
  )
  close(found['ppo/policy/loss'].value(), policy)
  found = ppo_original.value_loss(
    x['values'], x['old_values'], x['returns'], clip=VALUE_CLIP
  )
  close(found['val/loss'].value(), value)


def test_original_schedule():
  rate = lambda k: 3e-5 * ppo_original.rate(k, updates=562, rise=5)
  close([rate(k) for k in range(6)], [0, 6e-6, 1.2e-5, 1.8e-5, 2.4e-5, 3e-5])
  assert rate(562) == pytest.approx(0, abs=1e-12)
