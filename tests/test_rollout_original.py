"""PPO's original form on rows: its maths, and where its answers stop."""

import numpy as np

from rlhfv_jax import rollout
from rlhfv_jax.objectives import ppo_original


def test_the_original_form_is_the_originals_maths_on_answers_alone():
  """Through rows of other lengths it equals the plain functions on [N,T]."""
  rng, size = np.random.default_rng(0), 5
  lengths = np.array([[9, 0], [7, 0], [12, 0]], np.int32)
  draw = lambda: rng.normal(size=(3, 12)).astype(np.float32)
  x = {name: draw() for name in ('logps', 'ref_logps', 'values')}
  x['tokens'] = rng.integers(1, 9, (3, 12)).astype(np.int32)
  x['tokens'][0, 7:] = x['tokens'][1, 6:] = 0
  x |= {'lengths': lengths, 'scores': np.float32([1, -2, 3])}
  x['roles'] = np.ones((3, 1, 12), np.int8)
  found = rollout.original.targets(
    x, beta=0.1, gamma=1.0, lam=0.95, kl='k1', size=size
  )
  place = lengths[:, :1] - size + np.arange(size)
  pick = lambda a: np.take_along_axis(a, place, axis=1)
  padding = pick(x['tokens']) == 0
  assert padding.sum(axis=1).tolist() == [2, 1, 0]
  logps, ref = (
    np.where(padding, 0, pick(x[k])) for k in ('logps', 'ref_logps')
  )
  rewards = ppo_original.rewards(
    x['scores'], ppo_original.kl(logps, ref), beta=0.1
  )
  advantages, returns = ppo_original.advantages(
    rewards, pick(x['values']), gamma=1.0, lam=0.95
  )
  np.testing.assert_allclose(pick(np.asarray(found['returns'])), returns)
  np.testing.assert_allclose(
    pick(np.asarray(found['advantages'])), ppo_original.whiten(advantages)
  )


def test_answers_of_the_original_form_stop_at_a_question():
  said = [np.array([5, 9, 6, 2]), np.array([5, 6, 2])]
  found = rollout.original.finish(said, size=5, ends=(2,), questions=(9,))
  assert [a.tolist() for a in found] == [[5, 9, 0, 0, 0], [5, 6, 2, 0, 0]]
  kept = rollout.sound.finish(said, size=5, ends=(2,), questions=(9,))
  assert [a.tolist() for a in kept] == [a.tolist() for a in said]
