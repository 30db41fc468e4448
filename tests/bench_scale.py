"""What 100,000 rows cost: python tests/bench_scale.py [ROWS]

What a run does from its first line to its first batch, both sides of the data
read, its rows on the device: from nothing, and again with what the first run
left. Then what this process and each of its workers keep to themselves, for
these rows and for a tenth of them: a worker that had a copy of anything would
show it.
"""

import concurrent.futures
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import rlhfv_jax.main  # noqa: F401  all that a run imports
from rlhfv_jax import options, sharding
from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example
from rlhfv_jax.feed import DataFeed
from rlhfv_jax.playroom import language
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World, sample
from rlhfv_jax.stages import corrections, problem

ROWS, BATCH, WORKERS = 100_000, 32, 2
STEPS = 150  # before memory is looked at
LENGTHS = (20, 60)  # words an answer


def synthetic(count: int):
  """Pairs of which three words differ, with a few pictures of the playroom."""
  words = [word for word in language.vocabulary() if word.isalpha()]
  rng = np.random.default_rng(0)
  pictures = [png(draw(sample(World(), 'train', index=i))) for i in range(64)]
  for i in range(count):
    said = rng.choice(words, rng.integers(*LENGTHS)).tolist()
    mended = list(said)
    for place in rng.choice(len(said), 3, replace=False):
      others = [word for word in words if word != said[place]]
      mended[place] = others[rng.integers(len(others))]
    yield Example(
      f'{i}', pictures[i % 64], (('user', 'describe the picture.'),),
      (' '.join(mended), ' '.join(said)),
    )  # fmt: skip


def age() -> float:
  """Seconds since this process was started."""
  began = Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]
  ticks = os.sysconf('SC_CLK_TCK')
  return time.clock_gettime(time.CLOCK_BOOTTIME) - int(began) / ticks


def start(path: Path, folder: Path) -> tuple[DataFeed, dict[str, float]]:
  """A feed whose first batch has been read, and the seconds of each part."""
  seconds, clock = {}, [0.0]

  def lap(name: str) -> None:
    clock.append(age())
    seconds[name] = clock[-1] - clock[-2]

  lap('imports')
  config = options.load('configs/ddpo.py')
  config.data.update({'source': str(path), 'workers': WORKERS})
  config.train.batch = BATCH
  mesh = sharding.make_mesh(config.mesh)
  s = problem.setup(config, folder, mesh)
  lap('model')
  train, dev = corrections.pairs(s)
  lap('rows')
  feed = problem.feed(s, train, config.train)
  feed(None)
  lap('first batch')
  assert len(train.rows) + len(dev.rows) == len(sources.open(str(path)))
  return feed, seconds


def kept(pid: int | str) -> float:
  """Megabytes that only this process has written.

  Pages of the parquet that it alone has read so far are the disk's cache, which
  the system takes back when it needs the room.
  """
  lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
  (written,) = (line for line in lines if line.startswith('Private_Dirty:'))
  return int(written.split()[1]) / 1024


def prepare(rows: int, folder: Path) -> None:
  sources.write(folder / f'{rows}.parquet', synthetic(rows))


def measure(rows: int, folder: Path) -> dict[str, list[float]]:
  """Megabytes of its own of this process and of its workers after a while."""
  path = folder / f'{rows}.parquet'
  feed, seconds = start(path, folder / f'run-{rows}')
  told = ', '.join(f'{name} {s:.2f}' for name, s in seconds.items())
  print(f'{rows} rows: {sum(seconds.values()):.1f} s ({told})', flush=True)
  for _ in range(STEPS):
    feed(None)
  workers = [kept(child.pid) for child in multiprocessing.active_children()]
  memory = {'here': [kept('self')], 'workers': workers}
  feed.close()
  size = path.stat().st_size / 2**20
  print(f'{rows} rows, {size:.0f} MB of parquet: {memory} MB', flush=True)
  return memory


def alone(work: Callable, *args: Any) -> Any:
  """The work in a process of its own, which nothing was in before."""
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    return pool.submit(work, *args).result()


def both(rows: int, folder: Path) -> dict[str, list[float]]:
  """What a run from nothing keeps, and then one that finds its rows there."""
  alone(prepare, rows, folder)
  alone(measure, rows, folder)
  return alone(measure, rows, folder)


def main() -> None:
  count = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
  with tempfile.TemporaryDirectory() as folder:
    few = both(count // 10, Path(folder))
    many = both(count, Path(folder))
  for who in many:
    grown = np.mean(many[who]) - np.mean(few[who])
    print(f'{who}: {grown:+.1f} MB for ten times as many rows')


if __name__ == '__main__':
  main()
