"""The table of what fits where: its cells can be asked for, and are told."""

import json

import pytest

from launch import fits
from rlhfv_jax import meshes, options

FITS = {
  'fits': True, 'peak_gib': 9.02, 'limit_gib': 15.75, 'cycles': 8.72e9,
  'compute_seconds': 5.81, 'transfer_seconds': 0.54, 'estimated_mfu': 0.564,
}  # fmt: skip
TOO_MUCH = {'fits': False, 'peak_gib': 17.1, 'limit_gib': 15.75}


def keep(folder, cell, part):
  (folder / cell.file).write_text(json.dumps({'training': part}))


@pytest.mark.parametrize('cell', fits.CELLS, ids=lambda c: c.name)
def test_a_cell_names_a_config_and_rows_that_its_chips_divide(cell):
  command = cell.command()
  config = next(a for a in command if a.startswith('--config='))
  options.load(config.removeprefix('--config='))
  rows = next(a for a in command if 'train.batch' in a)
  assert int(rows.split('=')[1]) % meshes.SLICES[cell.slice].chips == 0


def test_cells_have_files_of_their_own():
  assert len({c.file for c in fits.CELLS}) == len(fits.CELLS)


def test_the_table_has_what_is_there_and_names_the_rest(tmp_path):
  first, second, *rest = fits.CELLS
  keep(tmp_path, first, FITS)
  keep(tmp_path, second, TOO_MUCH)
  text = fits.table(tmp_path)
  assert '| 640 + 2 x 192 | 8 | 9.02 of 15.75 | 8.72 | 5.81 s | 56 % |' in text
  assert '17.10 of 15.75: does not fit' in text
  assert text.count('\n| ') == 3
  missing = text.split('Not compiled yet: ')[1]
  assert len(missing.split(', ')) == len(rest)


def test_a_page_keeps_all_but_the_table(tmp_path, monkeypatch):
  monkeypatch.setattr(fits, 'CELLS', fits.CELLS[:1])
  page = tmp_path / 'page.md'
  page.write_text(f'before\n{fits.BEGIN}\nold\n{fits.END}\nafter\n')
  keep(tmp_path, fits.CELLS[0], FITS)
  for _ in range(2):
    fits.main([f'--folder={tmp_path}', f'--into={page}'])
    text = page.read_text()
    assert 'old' not in text
    assert text.count('llava15_13b') == 1
    assert text.startswith('before\n')
    assert text.endswith('\nafter\n')


def test_a_page_keeps_lines_whose_cells_are_not_there(tmp_path, monkeypatch):
  monkeypatch.setattr(fits, 'CELLS', fits.CELLS[:3])
  page = tmp_path / 'page.md'
  page.write_text(f'{fits.BEGIN}\n{fits.END}\n')
  first, second, third = fits.CELLS
  keep(tmp_path, first, FITS)
  keep(tmp_path, second, TOO_MUCH)
  fits.main([f'--folder={tmp_path}', f'--into={page}'])
  whole = page.read_text()
  assert 'Not compiled yet: llava15_13b on v5e-64.' in whole
  (tmp_path / first.file).unlink()
  keep(tmp_path, second, FITS)
  fits.main([f'--folder={tmp_path}', f'--into={page}'])
  kept, new = page.read_text(), fits.line(second, {'training': FITS})
  assert fits.line(first, {'training': FITS}) in kept
  assert 'does not fit' not in kept
  assert kept.splitlines()[5] == new
