"""One process of several that read the same rows: test_hosts_data starts it.

python tests/reading.py FOLDER START STOP WORKERS
"""

import contextlib
import json
import os
import sys
from itertools import islice
from pathlib import Path

import jax

from rlhfv_jax import hosts, sharding
from rlhfv_jax.data import cache, chat, images, pipeline, plan, sources, views
from rlhfv_jax.data import rows as data_rows
from rlhfv_jax.hosts.join import joined
from rlhfv_jax.playroom import language

ROWS, BATCH, EPOCHS = 45, 8, 2


def batches(folder, start, workers, mesh) -> pipeline.Batches:
  """As a stage makes them of a source."""
  source = sources.open(f'playroom:train/pairs/{ROWS}')
  tokenizer = chat.word_tokenizer(language.vocabulary())
  with hosts.in_turn():
    rows = cache.encoded(
      folder / 'rows', source, tokenizer, chat.template('playroom'),
      image_tokens=4,
    )  # fmt: skip
  lengths, prompts = data_rows.lengths(rows), data_rows.prompts(rows)
  buckets, _ = plan.choose_buckets(lengths, 2, prompts=prompts)
  return pipeline.batches(
    rows, images.Pictures(source, 32), seed=5, buckets=buckets, batch=BATCH,
    epochs=EPOCHS, start_step=start, workers=workers,
    here=hosts.rows(BATCH, mesh),
  )  # fmt: skip


def read(folder: Path, start: int, stop: int, workers: int) -> list[dict]:
  """What this process has of each global batch."""
  reader = batches(folder, start, workers, sharding.make_mesh())
  with contextlib.closing(reader):
    return [
      {
        'bucket': list(bucket),
        'index': batch['index'].tolist(),
        'looks': [views.digest(x.tobytes()) for x in batch['images']],
      }
      for bucket, batch in islice(reader, stop - start)
    ]


if __name__ == '__main__':
  folder, start, stop, workers = sys.argv[1:]
  with joined(os.environ.get('RLHFV_DISTRIBUTED', '')):
    found = read(Path(folder), int(start), int(stop), int(workers))
    path = Path(folder) / f'{start}-{jax.process_index()}.json'
    path.write_text(json.dumps(found))  # by every process, not the leader alone
