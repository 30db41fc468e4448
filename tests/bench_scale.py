"""What 100,000 rows cost: python tests/bench_scale.py [ROWS]

From nothing to the first batch, and again with what the first run left; then
what this process and each of its workers keep to themselves, for these rows and
for a tenth of them: a worker that had a copy of anything would show it.
"""

import concurrent.futures
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections import deque
from itertools import islice
from pathlib import Path

import numpy as np

from rlhfv_jax.data import (
  cache,
  chat,
  images,
  parallel,
  pipeline,
  plan,
  sources,
)  # fmt: skip
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.data.example import Example
from rlhfv_jax.playroom import language
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World, sample

ROWS, BATCH, WORKERS, PROCESSES = 100_000, 32, 2, parallel.cores()
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


def start(
  path: Path, folder: Path
) -> tuple[pipeline.Batches, dict[str, float]]:
  """A reader whose first batch has been read, and the seconds of each part."""
  seconds, clock = {}, [time.perf_counter()]

  def lap(name: str) -> None:
    clock.append(time.perf_counter())
    seconds[name] = clock[-1] - clock[-2]

  source = sources.open(str(path))
  tokenizer = chat.word_tokenizer(language.vocabulary())
  lap('open')
  rows = cache.encoded(
    folder, source, tokenizer, chat.template('playroom'), image_tokens=9,
    processes=PROCESSES,
  )  # fmt: skip
  lap('encode')
  lengths, prompts = data_rows.lengths(rows), data_rows.prompts(rows)
  buckets, _ = plan.choose_buckets(lengths, 3, prompts=prompts)
  lap('buckets')
  reader = pipeline.batches(
    rows, images.Pictures(source, 96, cache_bytes=0), seed=0, buckets=buckets,
    batch=BATCH, epochs=9, workers=WORKERS,
  )  # fmt: skip
  next(reader)
  lap('first batch')
  return reader, seconds


def kept(pid: int | str) -> float:
  """Megabytes that a process shares with no other."""
  lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
  private = [line.split() for line in lines if line.startswith('Private_')]
  return sum(int(words[1]) for words in private) / 1024


def measure(rows: int, folder: Path) -> dict[str, list[float]]:
  """Private megabytes of this process and of its workers after a while."""
  path = folder / f'{rows}.parquet'
  if not path.exists():
    sources.write(path, synthetic(rows))
  for again in ('from nothing', 'again'):
    reader, seconds = start(path, folder / 'rows')
    with contextlib.closing(reader):
      told = ', '.join(f'{name} {s:.2f}' for name, s in seconds.items())
      print(f'{rows} rows {again}: {sum(seconds.values()):.1f} s ({told})')
      deque(islice(reader, STEPS), 0)
      workers = [kept(child.pid) for child in multiprocessing.active_children()]
      memory = {'here': [kept('self')], 'workers': workers}
  size = path.stat().st_size / 2**20
  print(f'{rows} rows, {size:.0f} MB of parquet: {memory} MB')
  return memory


def alone(rows: int, folder: Path) -> dict[str, list[float]]:
  """`measure` in a process of its own, which nothing was in before."""
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    return pool.submit(measure, rows, folder).result()


def main() -> None:
  count = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
  with tempfile.TemporaryDirectory() as folder:
    few = alone(count // 10, Path(folder))
    many = alone(count, Path(folder))
  for who in many:
    grown = np.mean(many[who]) - np.mean(few[who])
    print(f'{who}: {grown:+.1f} MB for ten times as many rows')


if __name__ == '__main__':
  main()
