"""Lazy: examples made from the rows of files when they are asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlhfv_jax.data.example import Example, RowError, typed


class Table(Protocol):
  """Rows by number. What goes to a worker process is how to open it again."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Any:
    """The row; a RowError where it cannot be read."""

  def where(self, index: int) -> str:
    """The file and the place in it, as a person looks it up."""

  def files(self) -> list[Path]:
    """What has to stay as it is for the rows to stay as they are."""


class Source(Sequence):
  """The examples of a table. `to_example(row, index)` is a plain function.

  A row that cannot be used is a RowError that names its file and its place.
  """

  def __init__(self, table: Table, to_example: Callable[[Any, int], Example]):
    self.table, self.to_example = table, to_example

  def __repr__(self) -> str:
    return f'Source({self.table!r})'

  def __len__(self) -> int:
    return len(self.table)

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < len(self):
      raise IndexError(f'row {index} of {len(self)}')
    try:
      return typed(self.to_example(self.table[index], index))
    except RowError as error:
      where = self.where(index)
      raise RowError(error.reason, f'{where}: {error.detail}') from error
    except KeyError as error:
      raise RowError('missing key', f'{self.where(index)}: {error}') from error
    except (AttributeError, IndexError, TypeError) as error:
      raise RowError('wrong type', f'{self.where(index)}: {error}') from error

  def where(self, index: int) -> str:
    return self.table.where(index)

  def files(self) -> list[Path]:
    return self.table.files()
