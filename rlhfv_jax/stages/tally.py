"""Tally: how many rows of each set are used, in which shapes, and why not all.

Files of the workdir beside what they tell of: NAME.rejected.json lists the rows
that cannot be used, NAME.rows.json says how many can and what padding costs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax import files
from rlhfv_jax.data import plan
from rlhfv_jax.data import rows as data_rows

REJECTED, ROWS = '.rejected.json', '.rows.json'


def reject(
  folder: Path,
  name: str,
  rows: data_rows.Rows,
  where: Callable[[int], str],
  *,
  skip: bool,
) -> None:
  """Lists the rows that cannot be used, and where they are.

  Without `skip` there may be none of them; with it one has to be left.
  """
  listed = folder / f'{name}{REJECTED}'
  told = [row._asdict() | {'where': where(row.index)} for row in rows.rejected]
  files.write_json(listed, told)
  why = ', '.join(f'{n} {reason}' for reason, n in rows.reasons.items())
  counted = f'{name}: {len(told)} of {len(rows)} rows'
  if told and not skip:
    first = told[0]
    detail = first['detail'].removeprefix(f'{first["where"]}: ')
    raise ValueError(
      f'{counted} cannot be used: {why}. The first is {first["where"]} '
      f'({first["id"]}): {first["reason"]}: {detail}. All are in {listed}; '
      'mend them, or leave them out with --config.data.skip=True'
    )
  if told:
    print(f'{counted} not used: {why}', file=sys.stderr)
  if not rows.kept:
    raise ValueError(f'{name}: no row can be used, see {listed}')


def count(
  folder: Path, name: str, rows: data_rows.Rows, buckets: Sequence[plan.Bucket]
) -> None:
  """Says how many rows there are, their shapes, and what share is padding."""
  padding = plan.padding(
    data_rows.lengths(rows), buckets, prompts=data_rows.prompts(rows)
  )
  files.write_json(folder / f'{name}{ROWS}', {
    'rows': len(rows), 'used': rows.kept, 'padding': round(padding, 4),
    'buckets': [list(bucket) for bucket in buckets],
  })  # fmt: skip


def left_out(folder: Path) -> dict[str, dict[str, int]]:
  """For each set of rows, how many could not be used and why."""
  found = {
    name: dict(Counter(row['reason'] for row in rejected))
    for name, rejected in _read(folder, REJECTED).items()
  }
  return {name: reasons for name, reasons in found.items() if reasons}


def used(folder: Path) -> dict[str, dict[str, Any]]:
  """For each set of rows, how many there are, their shapes and padding."""
  return _read(folder, ROWS)


def _read(folder: Path, suffix: str) -> dict[str, Any]:
  return {
    path.relative_to(folder).as_posix().removesuffix(suffix):
      files.read_json(path)
    for path in sorted(folder.rglob(f'*{suffix}'))
  }  # fmt: skip
