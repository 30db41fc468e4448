"""Export: examples as files of another format, parquet or records."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rlhfv_jax.data import lossless
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.lossless import Format, Row
from rlhfv_jax.data.storage import beside, columns, shards


def rows(examples: Iterable[Example], format: Format) -> Iterator[Row]:
  for index, example in enumerate(examples):
    try:
      yield lossless.to_row(example, index, format=format)
    except RowError as error:
      raise RowError(
        error.reason, f'row {index} ({example.id}): {error.detail}'
      ) from error


def parquet(
  path: str | Path,
  examples: Iterable[Example],
  format: Format,
  *,
  shard_bytes: int = 2**30,
) -> None:
  """A `.parquet` file or a folder of shards. Goes through the examples twice,
  the first time for the types of their columns."""
  if isinstance(examples, Iterator):
    examples = list(examples)
  schema = columns.schema(rows(examples, format), format.types)
  shards.write(
    path,
    (columns.typed(row, schema) for row in rows(examples, format)),
    schema,
    shard_bytes=shard_bytes,
  )


def records(
  path: str | Path,
  examples: Iterable[Example],
  format: Format,
  *,
  column: str = 'images',
) -> None:
  """A `.json` or `.jsonl` file, with the pictures beside it."""
  beside.write(path, rows(examples, format), column=column)
