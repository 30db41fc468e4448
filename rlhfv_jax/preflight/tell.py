"""What preflight found, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROGRAMS = ('training', 'reference', 'decoding', 'two_rows', 'plain_rows')
OTHERS = {
  'two_rows': 'each answer in a row of its own',
  'plain_rows': 'that, logits of every token, and attention by a mask',
}


def lines(found: Mapping[str, Any]) -> list[str]:
  at = '{config} on {topology}: {chips} chips, mesh {mesh}'.format(**found)
  pairs = '{rows} rows a step ({rows_a_chip:g} a chip) in bucket {bucket}'
  told = [at, pairs.format(**found), '']
  told += [f'{"":12}{"peak":>8}{"arguments":>11}{"temporaries":>13}'
           f'{"of GiB":>8}{"compiled in":>13}']  # fmt: skip
  for name in PROGRAMS:
    if name in found:
      told.append(_memory(name, found[name]))
  told += ['', *_time(found.get('training', {})), *_apart(found)]
  if 'largest' in found:
    rows = found['largest']['rows']
    told.append(
      f'largest batch that fits: {rows} rows, '
      f'{found["largest"].get("peak_gib", 0)} GiB' if rows else
      'no batch fits'
    )  # fmt: skip
  told += ['', 'what the state takes on a chip, by arithmetic']
  told += _table(found['states'])
  told += ['', 'what waits for the way back on a chip, by arithmetic']
  told += _table(found['kept'])
  told += [f'\nwarning: {w}' for w in found['warnings']]
  return told


def _memory(name, part):
  one = '{:12}{:>8}{:>11}{:>13}{:>8}{:>12}s'
  return one.format(
    name, part['peak_gib'], part['arguments_gib'], part['temporaries_gib'],
    part['limit_gib'], part['compile_seconds'],
  )  # fmt: skip


def _time(part):
  if 'cycles' not in part:
    return []
  moved = ', '.join(
    f'{n} {kind} ({part["collective_gb"][kind]:.1f} GB)'
    for kind, n in part['collectives'].items()
  )
  return [
    f'the compiler estimates {part["cycles"]:.2e} cycles a step, at least '
    f'{part["compute_seconds"]:.2f} s: {part["pairs_per_second"]:.1f} rows/s, '
    f'MFU {100 * part["estimated_mfu"]:.0f} %',
    '(an estimate by its model of the chip; attention kernels and waiting for '
    'other chips are not in it)',
    f'between chips: {moved or "nothing"}; at least '
    f'{part["transfer_seconds"]:.2f} s, beside products where '
    f'asynchronous ({part["asynchronous"]} are)',
  ]


def _apart(found):
  """How many times the cycles the same pairs take without a shared trunk."""
  ours = found.get('training', {}).get('cycles')
  return [
    f'{found[name]["cycles"] / ours:.2f} times the cycles: {what}'
    for name, what in OTHERS.items()
    if ours and 'cycles' in found.get(name, {})
  ]


def _table(values):
  width = max(map(len, values))
  return [f'  {name:{width}}  {size:6.2f} GiB' for name, size in values.items()]


def verdict(found: Mapping[str, Any]) -> str | None:
  """Why it must not be run so, in a sentence; None where it may."""
  part = found.get('training', {'fits': True})
  if not part['fits']:
    # A step needs some room beside its state.
    fitting = [
      k for k, v in found['states'].items() if v < part['limit_gib'] - 2
    ]
    out = f'; or {fitting[-1]}' if fitting else ''
    most = found.get('largest', {}).get('rows')
    rows = f'config.train.batch={most} fits' if most else \
      'a smaller config.train.batch, more chips'  # fmt: skip
    return (
      f'the step takes {part["peak_gib"]} GiB and a chip has '
      f'{part["limit_gib"]}: {rows}{out}'
    )
  for name in ('reference', 'decoding'):
    if name in found and not found[name]['fits']:
      return (
        f'{name} takes {found[name]["peak_gib"]} GiB and a chip has '
        f'{found[name]["limit_gib"]}: a smaller config.'
        f'{"reference" if name == "reference" else "evaluate"}.batch'
      )
  if part.get('problems'):
    return '; '.join(part['problems'])
  return None
