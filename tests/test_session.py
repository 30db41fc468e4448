"""A training on disk: resumed to the bit, best kept, numbers gone bad named."""

import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from rlhfv_jax import files, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.checkpoint import CheckpointError
from rlhfv_jax.metrics import Mean
from rlhfv_jax.train import hooks, nonfinite, session

AUTO = jax.sharding.AxisType.Auto
STEPS = 8


def config(**changes):
  c = ConfigDict({
    'batch': 4, 'micro': 1, 'steps': STEPS, 'lr': 0.1, 'warmup': 0.1,
    'schedule': 'cosine', 'clip': 1.0, 'b1': 0.9, 'b2': 0.999, 'eps': 1e-8,
    'optimizer': 'adamw', 'weight_decay': 0.0, 'rules': (('.*', 'trained'),),
    'log_every': 1, 'save_every': 2, 'eval_every': 2, 'keep': 2,
    'best': 'eval_loss:min', 'patience': 0,
  })  # fmt: skip
  c.update(changes)
  return c


def loss(params, batch, hyper):
  miss = batch['x'] @ params['norm']['weight'] - batch['y'] * hyper['scale']
  return {'loss': Mean.of(miss**2, where=batch['roles'][:, 0, 0] > 0)}


def rows(seed):
  rng = np.random.default_rng(seed)
  return Batch({
    'x': rng.normal(size=(4, 3)).astype(np.float32),
    'y': rng.normal(size=4).astype(np.float32),
    'roles': np.ones((4, 1, 1), np.int8),
    'index': np.arange(4 * seed, 4 * seed + 4, dtype=np.int32),
  }, (1, 0, 1))  # fmt: skip


class Numbers:
  """A feed whose batch k is made from k."""

  def __init__(self, mesh, spoil=None, stop_at=None):
    self.step, self.mesh, self.spoil = 0, mesh, spoil
    self.stop_at = stop_at

  def __call__(self, state):
    if self.step == self.stop_at:
      raise KeyboardInterrupt
    batch = rows(self.step)
    if self.step == self.spoil:
      batch['y'][2] = np.inf
    self.step += 1
    return sharding.batch_to_devices(batch, self.mesh)

  def get_state(self):
    return {'step': np.array(self.step)}

  def set_state(self, state):
    self.step = int(state['step'])


def run(folder, *, c=None, held_out=True, **feed):
  mesh = jax.make_mesh((1, 1, 1), sharding.AXES, devices=jax.devices()[:1],
                       axis_types=(AUTO,) * 3)  # fmt: skip
  c = c or config()
  with jax.set_mesh(mesh):
    start = {'norm': {'weight': jnp.zeros(3)}}
    start = jax.device_put(start, sharding.specs(start, mesh))
    made = session.program(loss, start, c, mesh)
    dev = [sharding.batch_to_devices(rows(100), mesh)]
    return jax.device_get(session.run(
      made, start, Numbers(mesh, **feed), hyper={'scale': 1.0}, config=c,
      held_out=(lambda: dev) if held_out else None, folder=folder,
      name='test', mesh=mesh,
    ))  # fmt: skip


def numbers(folder):
  """The log without its clock."""
  log = files.read_lines(folder / 'metrics.jsonl')
  return [{k: v for k, v in r.items() if k != 'tokens_per_second'} for r in log]


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path):
  whole = run(tmp_path / 'whole')
  for at in (3, 5):
    with pytest.raises(KeyboardInterrupt):
      run(tmp_path / 'parts', stop_at=at)
  parts = run(tmp_path / 'parts')
  np.testing.assert_array_equal(whole['norm']['weight'],
                                parts['norm']['weight'])  # fmt: skip
  assert numbers(tmp_path / 'whole') == numbers(tmp_path / 'parts')


def test_a_finished_run_is_done_at_once(tmp_path):
  first = run(tmp_path)
  again = run(tmp_path, stop_at=0)  # would raise if it trained
  np.testing.assert_array_equal(first['norm']['weight'],
                                again['norm']['weight'])  # fmt: skip


def test_the_best_parameters_are_those_with_the_lowest_held_out_loss(tmp_path):
  run(tmp_path, c=config(lr=2.0, schedule='constant'))
  log = [r for r in numbers(tmp_path) if 'eval_loss' in r]
  best = files.read_json(tmp_path / 'best.json')
  assert best['eval_loss'] == min(r['eval_loss'] for r in log)
  assert best['step'] == min(log, key=lambda r: r['eval_loss'])['step']


def test_patience_stops_early(tmp_path):
  # Steps so large that the second evaluation is worse than the first.
  run(tmp_path, c=config(lr=50.0, schedule='constant', patience=1))
  assert files.read_json(tmp_path / 'done.json')['steps'] < STEPS


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_serves(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / 'a', stop_at=7)
  newest = tmp_path / 'a/checkpoints/6'
  for path in newest.rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:7])
  end = run(tmp_path / 'a')
  assert (tmp_path / 'a/checkpoints/broken-6').exists()
  whole = run(tmp_path / 'b')
  np.testing.assert_array_equal(end['norm']['weight'], whole['norm']['weight'])


def test_an_empty_folder_is_no_checkpoint_and_all_damaged_is_an_error(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, stop_at=3)
  shutil.rmtree(tmp_path / 'checkpoints/2')
  (tmp_path / 'checkpoints/99').mkdir()
  with pytest.raises(CheckpointError, match='none of the checkpoints'):
    run(tmp_path)


def test_the_first_bad_number_is_named_and_kept(tmp_path):
  with pytest.raises(nonfinite.NonFinite, match='step 4: .*batch y is not'):
    run(tmp_path, spoil=3)
  replay = np.load(tmp_path / 'replay-4.npz')
  assert np.isinf(replay['batch/y'][2])
  assert (tmp_path / 'replay-4-params').exists()
  # What came before it is still there, and nothing after it was kept.
  assert max(r['step'] for r in numbers(tmp_path)) <= 4
  steps = [int(p.name) for p in (tmp_path / 'checkpoints').iterdir()]
  assert max(steps) < 4


def test_a_bad_loss_names_its_rows():
  def bad(params, batch, hyper):
    root = jnp.sqrt(batch['x'][:, 0] + params['w'])
    return {'loss': Mean.of(root, where=batch['roles'][:, 0, 0] > 0)}

  batch = jax.tree.map(jnp.asarray, rows(5))
  batch['x'] = jnp.ones((4, 3)).at[1, 0].set(-4.0)
  said = nonfinite.explain(bad, {'w': jnp.zeros(1)}, batch, {})
  assert said == 'the loss is not finite, from rows [21] of the data'


def test_sigterm_saves_and_the_run_goes_on(tmp_path):
  class Stopping(Numbers):
    def __call__(self, state):
      if self.step == 4:
        os.kill(os.getpid(), signal.SIGTERM)
      return super().__call__(state)

  before = signal.getsignal(signal.SIGTERM)
  numbers_feed, globals()['Numbers'] = Numbers, Stopping
  try:
    with pytest.raises(hooks.Terminated) as stopped:
      run(tmp_path / 'a')
  finally:
    globals()['Numbers'] = numbers_feed
    signal.signal(signal.SIGTERM, before)
  assert stopped.value.code == 143
  assert 5 in [int(p.name) for p in (tmp_path / 'a/checkpoints').iterdir()]
  end, whole = run(tmp_path / 'a'), run(tmp_path / 'b')
  np.testing.assert_array_equal(end['norm']['weight'], whole['norm']['weight'])
  logged = [
    [(r['step'], r['loss']) for r in files.read_lines(tmp_path / name)
     if 'loss' in r]
    for name in ('a/metrics.jsonl', 'b/metrics.jsonl')
  ]  # fmt: skip
  assert logged[0] == logged[1]


def test_a_rule_that_names_no_number_lists_those_there_are(tmp_path):
  with pytest.raises(ValueError, match='there are eval_loss'):
    run(tmp_path / 'a', c=config(best='eval_lss:min'))
  with pytest.raises(ValueError, match='metric:min or metric:max'):
    run(tmp_path / 'b', c=config(best='eval_loss'))
