"""python -m rlhfv_jax data: what a person types, and what it says back."""

import json
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from test_formats_lossless import pair

from rlhfv_jax import __main__ as door
from rlhfv_jax.commands import data
from rlhfv_jax.data import chat, sources, tokenizer

ROWS = [
  replace(pair(i), image=pair(i).image, extra={'score': i}) for i in range(4)
]


def run(*argv: str) -> int:
  try:
    door.main(['data', *map(str, argv)])
  except SystemExit as error:
    return error.code
  return 0


def playroom(folder, n: int = 12) -> str:
  path = folder / 'pairs.parquet'
  sources.write(path, sources.open(f'playroom:train/pairs/{n}'))
  return str(path)


# ---- convert


def test_there_and_back_by_command(tmp_path, capsys):
  sources.write(tmp_path / 'a', ROWS)
  steps = ('rlhfv:b.parquet', 'trl:c', 'llamafactory:d', 'muffin_tsv:e')
  before = f'{tmp_path}/a'
  for step in steps:
    kind, name = step.split(':')
    after = f'{kind}:{tmp_path}/{name}'
    assert run('convert', f'--from={before}', f'--to={after}') == 0
    said = capsys.readouterr()
    assert said.out == f'4 rows in {tmp_path}/{name}\n'
    assert 'read: 100%' in said.err
    before = after
  assert run('convert', f'--from={before}', f'--to={tmp_path}/z') == 0
  for found, expected in zip(sources.open(f'{tmp_path}/z'), ROWS, strict=True):
    shown = {k: v for k, v in found.extra.items() if k[:5] != '_row.'}
    if not expected.image_path:
      found = replace(found, image_path='')
    assert replace(found, extra=shown) == expected


def test_rows_that_cannot_be_converted_are_listed_and_the_others_written(
  tmp_path, capsys
):
  turns = (('user', 'a'), ('assistant', 'b'), ('user', 'c'))
  bad = [
    replace(ROWS[0], turns=turns),
    replace(ROWS[1], answers=('<image>', 'b'), spans=None),
  ]
  sources.write(tmp_path / 'a', [ROWS[0], *bad, ROWS[1]])
  out = tmp_path / 'out.parquet'
  assert run('convert', f'--from={tmp_path}/a', f'--to=rlhfv:{out}') == 0
  said = capsys.readouterr()
  assert f'2 rows in {out}' in said.out
  assert f'2 rows not converted: {out}.rejected.json' in said.err
  shard = tmp_path / 'a/00000-of-00001.parquet'
  assert f'several turns: {shard}, row 1 (row-0): 3' in said.err
  listed = json.loads((tmp_path / 'out.parquet.rejected.json').read_text())
  assert [(r['row'], r['reason']) for r in listed] == [
    (1, 'several turns'),
    (2, 'image placeholder'),
  ]
  assert [e.id for e in sources.open(f'rlhfv:{out}')] == ['row-0', 'row-1']
  sources.write(tmp_path / 'a', ROWS)
  assert (
    run('convert', f'--from={tmp_path}/a', f'--to=rlhfv:{out}', '--force') == 0
  )
  assert not (tmp_path / 'out.parquet.rejected.json').exists()


def test_nothing_is_written_where_no_row_can_be(tmp_path, capsys):
  sources.write(tmp_path / 'a', [replace(ROWS[0], answers=('a',), spans=None)])
  for kind in ('rlhfv', 'llamafactory', 'rlaifv'):
    to = f'--to={kind}:{tmp_path}/{kind}'
    assert run('convert', f'--from={tmp_path}/a', to) == 1
    assert 'no row could be converted, the first for: not a' in (
      capsys.readouterr().err
    )
    left = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert [path.parent.name for path in left] == ['a']


def test_what_is_there_is_not_replaced_unasked(tmp_path, capsys):
  sources.write(tmp_path / 'a', ROWS)
  for target in ('trl:b', 'swift:c', 'rlaifv:d.parquet', 'muffin_tsv:e'):
    kind, name = target.split(':')
    argv = ('convert', f'--from={tmp_path}/a', f'--to={kind}:{tmp_path}/{name}')
    assert run(*argv) == 0
    assert run(*argv) == 1
    assert f'{name}: is there already; --force' in capsys.readouterr().err
    assert run(*argv, '--force') == 0
    assert len(sources.open(f'{kind}:{tmp_path}/{name}')) == 4


def test_a_folder_with_other_things_is_never_replaced(tmp_path, capsys):
  sources.write(tmp_path / 'a', ROWS)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine/thesis.tex').write_text('years of work')
  argv = ('convert', f'--from={tmp_path}/a', f'--to=trl:{tmp_path}/mine')
  assert run(*argv, '--force') == 1
  assert 'holds thesis.tex' in capsys.readouterr().err
  assert (tmp_path / 'mine/thesis.tex').read_text() == 'years of work'
  argv = ('convert', f'--from={tmp_path}/a', f'--to={tmp_path}/a')
  assert run(*argv, '--force') == 1
  assert 'it is read from there' in capsys.readouterr().err


@pytest.mark.parametrize(
  'source, target, said',
  [
    ('a', 'tlr:b', "'tlr': did you mean 'trl'"),
    ('tlr:a', 'trl:b', "'tlr': did you mean 'trl'"),
    ('a', 'aokvqa:b', 'aokvqa is only read; written are examples, rlhfv'),
    ('a', 'trl:b?from=plain', "trl is not written with 'from', but with form"),
    ('a', 'trl:b?form=odd', "form 'odd': one of parts"),
    ('a', 'muffin_tsv:b.tsv', 'name a folder'),
    ('nowhere', 'trl:b', 'nowhere: no such file'),
  ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
  source, target, said, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  sources.write('a', ROWS)
  assert run('convert', f'--from={source}', f'--to={target}') == 1
  err = capsys.readouterr().err
  assert 'error: ' in err and said in err and 'Traceback' not in err


# ---- check


def test_check_writes_a_page_and_says_that_it_is_safe(tmp_path, capsys):
  page = tmp_path / 'page.html'
  assert run('check', f'--data={playroom(tmp_path)}', f'--out={page}') == 0
  assert 'Safe to train on' in capsys.readouterr().out
  assert '<html' in page.read_text()


def test_check_of_bad_rows_names_them_and_its_code_says_so(tmp_path, capsys):
  rows = list(sources.open('playroom:train/pairs/6'))
  rows[2] = replace(rows[2], answers=('same',) * 2, spans=None)
  rows[4] = replace(rows[4], image=b'no picture')
  sources.module('swift').write(tmp_path / 'b', rows)
  data_file = tmp_path / 'b/data.jsonl'
  data_file.write_text(data_file.read_text() + '{"messages": [')
  argv = ('check', f'--data=swift:{tmp_path}/b', f'--out={tmp_path}/p.html')
  assert run(*argv) == 1
  said = capsys.readouterr().out
  assert 'Not safe to train on: 3 of 7 rows' in said
  for problem in ('equal answers', 'undecodable picture', 'not JSON'):
    assert problem in said
  assert f'{data_file}, row 6' in said


def test_check_goes_on_after_a_file_that_cannot_be_opened(tmp_path, capsys):
  rows = list(sources.open('playroom:train/pairs/6'))
  rows[2] = replace(rows[2], answers=('same',) * 2, spans=None)
  folder = tmp_path / 'set'
  for i in range(3):
    part = rows[2 * i : 2 * i + 2]
    sources.module('rlaifv').write(folder / f'{i}.parquet', part)
  cut = folder / '0.parquet'
  cut.write_bytes(cut.read_bytes()[:-9])
  less = pq.read_table(folder / '2.parquet').drop_columns(['chosen'])
  pq.write_table(less, folder / '2.parquet')
  argv = ('check', f'--data=rlaifv:{folder}', f'--out={tmp_path}/p.html')
  assert run(*argv) == 1
  said = capsys.readouterr().out
  assert f'{cut}: not a whole parquet file' in said
  assert f'{folder}/2.parquet: no column chosen' in said
  assert f'{folder}/1.parquet, row 0 ({rows[2].id}): ' in said
  page = (tmp_path / 'p.html').read_text()
  assert 'unreadable file' in page and 'equal answers' in page
  # A source of which nothing can be read has only that to tell.
  both = f'{tmp_path}/none.parquet + rlaifv:{cut}'
  assert run('check', f'--data={both}', f'--out={tmp_path}/p.html') == 1
  said = capsys.readouterr().out
  assert 'none.parquet: no such file' in said and 'not a whole' in said
  assert run('check', f'--data=rlaifv:{cut}') == 1
  assert 'error: ' in capsys.readouterr().err


def test_check_measures_in_tokens_of_the_model(tmp_path, capsys):
  path = playroom(tmp_path)
  words = chat.word_tokenizer(['there', 'is', 'a', 'picture', 'room'])
  tokenizer.save(words, tmp_path / 'words')
  argv = [
    'check', f'--data={path}', f'--out={tmp_path}/p.html',
    f'--tokenizer={tmp_path}/words', '--template=playroom', '--image-tokens=4',
    "--buckets=(64,64,2) (99,99,2)",
  ]  # fmt: skip
  run(*argv)
  assert 'unknown word' in capsys.readouterr().out  # so tokens were looked at
  assert run('check', f'--data={path}', '--model=llava15_7b') == 1
  assert '--model counts tokens' in capsys.readouterr().err
  assert run(*argv[:4]) == 1
  assert '--tokenizer goes with' in capsys.readouterr().err


def test_a_preset_brings_its_template_and_its_picture(tmp_path):
  words = chat.word_tokenizer(['there'])
  tokenizer.save(words, tmp_path / 'words')
  options = data._parser().parse_args(
    ['check', '--data=a', f'--tokenizer={tmp_path}/words', '--model=rlhfv_13b',
     '--buckets=640,128,2; 640,384,2']
  )  # fmt: skip
  found = data._reader(options)
  assert found['template'] == chat.template('muffin')
  assert found['image_tokens'] == 64
  assert options.buckets == [(640, 128, 2), (640, 384, 2)]


def test_the_door_from_outside(tmp_path):
  """Nothing of this needs an accelerator, or takes long to say what it does."""
  command = [sys.executable, '-m', 'rlhfv_jax', 'data']
  said = subprocess.run(
    [*command, 'convert', '--help'], capture_output=True, text=True, check=True
  )
  for kind in sources.KINDS:
    assert f'  {kind}' in said.stdout
