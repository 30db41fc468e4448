"""Dense DPO in float64: the original's scores, losses and gradients."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_preference import losses, value_and_grad, values

from rlhfv_jax.models import logps_from_logits
from rlhfv_jax.objectives.preference import preference_loss, segment_score


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
      return losses(*row, beta=case['beta'], gamma=1.0, normalize=False)

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
    (value, means), grad = value_and_grad(loss)(logits)
    close = dict(rtol=0, atol=1e-9)
    np.testing.assert_allclose(value, want['loss'], **close)
    np.testing.assert_allclose(grad, want['grad_logits'], **close)
    got, compared = values(means), 0
    for name, theirs in want['metrics'].items():
      ours = name.replace('_train', '')
      if ours in got:
        np.testing.assert_allclose(got[ours], theirs, err_msg=ours, **close)
        compared += 1
    assert compared == 6
