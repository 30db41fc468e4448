"""One process of a small training on many: how test_hosts starts it.

python tests/many.py HOW FOLDER [STEPS [PAUSE [FAIL]]]
"""

import hashlib
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlhfv_jax import hosts, sharding
from rlhfv_jax.feed import to_batch
from rlhfv_jax.hosts.join import joined
from rlhfv_jax.metrics import Mean
from rlhfv_jax.train import session

ROWS = 8


def config(steps):
  return ConfigDict({
    'batch': ROWS, 'micro': 1, 'steps': steps, 'lr': 0.05, 'warmup': 0.1,
    'schedule': 'constant', 'clip': 1.0, 'b1': 0.9, 'b2': 0.999, 'eps': 1e-8,
    'weight_decay': 0.0, 'rules': (('.*', 'trained'),), 'log_every': 1,
    'save_every': 4, 'eval_every': 1000, 'keep': 2, 'best': 'eval_loss:min',
    'patience': 0, 'optimizer': 'adamw',
  })  # fmt: skip


def loss(params, batch, hyper):
  table = params['embed_tokens']['embedding']
  miss = batch['x'] @ table - batch['y'][:, None]
  return {'loss': Mean.of((miss**2).sum(-1), where=batch['index'] >= 0)}


class Numbers:
  """A feed of this process's rows; process 1 may fail."""

  def __init__(self, mesh, pause, fail):
    self.step, self.mesh, self.pause, self.fail = 0, mesh, pause, fail

  def __call__(self, state):
    time.sleep(self.pause)
    if self.step == self.fail and not hosts.leader():
      raise ValueError('picture 7 is broken')
    here = hosts.rows(ROWS, self.mesh)
    rng = np.random.default_rng(self.step)
    batch = {
      'x': rng.normal(size=(ROWS, 16)).astype(np.float32)[here],
      'y': rng.normal(size=ROWS).astype(np.float32)[here],
      'index': np.arange(ROWS, dtype=np.int32)[here],
    }
    self.step += 1
    return to_batch(((1, 0, 1), batch), self.mesh)

  def get_state(self):
    return {'step': np.array(self.step)}

  def set_state(self, state):
    self.step = int(state['step'])


def train(folder, steps, pause, fail):
  mesh = sharding.make_mesh()
  with jax.set_mesh(mesh):
    start = {'embed_tokens': {'embedding': jnp.zeros((16, 8))}}
    place = sharding.specs(start, mesh)
    start = jax.jit(lambda: start, out_shardings=place)()
    c = config(steps)
    made = session.program(loss, start, c, mesh)
    end = session.run(
      made, start, Numbers(mesh, pause, fail), hyper={}, config=c,
      held_out=None, folder=folder, name='many', mesh=mesh,
    )  # fmt: skip
    found = hosts.whole(end['embed_tokens']['embedding'])
    print('digest', hashlib.sha256(found.tobytes()).hexdigest())


if __name__ == '__main__':
  how, folder, *rest = sys.argv[1:]
  steps, pause, fail = map(float, rest + ['8', '0', '-1'][len(rest) :])
  with joined(how if how != '-' else '', expected=(ValueError,)):
    train(Path(folder), int(steps), pause, int(fail))
