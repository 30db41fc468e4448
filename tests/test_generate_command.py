"""python -m rlhfv_jax generate: one question aloud, or a file of them."""

import json

import pytest
from test_generate import scattered

from rlhfv_jax import files, models
from rlhfv_jax.annotate import material
from rlhfv_jax.commands import generate
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat
from rlhfv_jax.playroom import dataset, language
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World

TOKENIZER = chat.word_tokenizer(language.vocabulary())
MODEL = dict(
  text=dict(
    vocab_size=-(-len(TOKENIZER) // 8) * 8, width=32, mlp=48, depth=1, heads=4,
    kv_heads=2, max_length=64,
  ),
  vision=dict(
    kind='clip', image_size=16, patch=8, width=24, mlp=32, depth=1, heads=4
  ),
  image_token=chat.image_token_id(TOKENIZER),
)  # fmt: skip
ASKED = 'what is in the picture?'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A model as an import leaves it, and three pictures."""
  folder = tmp_path_factory.mktemp('asked')
  write_model(folder, 0.3)
  for i, scene in enumerate(dataset.scenes(World(), 'test', 3, seed=0)):
    files.write_bytes(folder / f'{i}.png', png(draw(scene)))
  files.write_lines(
    folder / 'questions.jsonl',
    [{'question_id': i, 'image': f'{i}.png', 'text': ASKED} for i in range(3)],
  )
  return folder


def write_model(folder, spread):
  params = scattered(models.build(MODEL), spread)
  about = workdir.About(MODEL, 'playroom', 'squash', tokenizer='tokenizer')
  workdir.write(folder, params, about, sources=())
  chat.save(TOKENIZER, folder / 'tokenizer')


def run(folder, *options):
  generate.main([f'--init={folder}', '--max-new=9', '--batch=8', *options])


def from_file(folder, *options):
  run(
    folder, f'--questions={folder}/questions.jsonl', f'--images={folder}',
    f'--out={folder}/out.jsonl', *options,
  )  # fmt: skip
  return files.read_lines(folder / 'out.jsonl')


def test_a_question_has_the_same_answer_aloud_and_from_a_file(folder, capsys):
  rows = from_file(folder)
  assert [row['id'] for row in rows] == ['0', '1', '2']
  assert {row['question'] for row in rows} == {ASKED}
  assert any(row['answer'] for row in rows)
  assert capsys.readouterr().out == f'3 answers in {folder}/out.jsonl\n'
  from_file(folder)
  assert '3 of them from before' in capsys.readouterr().out
  for i, row in enumerate(rows):
    run(folder, f'--image={folder}/{i}.png', f'--question={ASKED}')
    assert capsys.readouterr().out == row['answer'] + '\n'


@pytest.mark.parametrize(
  'options, says',
  [
    ((), 'one --question'),
    (('--question=a', '--questions=b.jsonl'), 'one --question'),
    (('--questions=b.jsonl',), '--out'),
  ],
)
def test_what_is_asked_must_be_said_once(folder, options, says):
  with pytest.raises(ValueError, match=says):
    run(folder, *options)


def test_a_bad_line_is_named(folder, tmp_path):
  path = tmp_path / 'bad.jsonl'
  for row, says in (
    ({'image': '0.png'}, 'line 1: no question'),
    ({'question': ASKED, 'image': 'no.png'}, 'line 1: no picture .*no.png'),
  ):
    path.write_text(json.dumps(row) + '\n')
    with pytest.raises(ValueError, match=says):
      generate.read(path, folder)
  path.write_text('')
  with pytest.raises(ValueError, match='no questions'):
    generate.read(path, folder)


def test_answers_are_what_people_can_correct_and_say_where_they_doubt(
  folder, tmp_path
):
  """A probability is below one in every word, so all of it is doubted."""
  run(
    folder, f'--questions={folder}/questions.jsonl', f'--images={folder}',
    f'--out={tmp_path}/out.jsonl', '--doubts=1',
  )  # fmt: skip
  source = material.open_source(f'{tmp_path}/out.jsonl', str(folder))
  found = list(material.usable(source, 'correct', []))
  assert [e.image for e in found] == [
    (folder / f'{i}.png').read_bytes() for i in range(3)
  ]
  for example in found:
    (said,), doubts = example.answers, example.extra['doubts']
    assert ''.join(said[a:b] for a, b, _ in doubts) == said.replace(' ', '')
    assert all(0 < p < 1 for *_, p in doubts)


def test_a_file_goes_on_only_with_what_made_it(folder, tmp_path):
  out, other = tmp_path / 'out.jsonl', tmp_path / 'other'
  write_model(other, 0.31)
  ask = lambda *options, by=folder: run(
    by, f'--questions={folder}/questions.jsonl', f'--images={folder}',
    f'--out={out}', *options,
  )  # fmt: skip
  ask('--seed=1')
  whole = out.read_bytes()
  kept = whole.splitlines(keepends=True)[0]
  out.write_bytes(kept)
  for options, by, differs in (
    (('--max-new=8',), folder, 'max_new is 8 here and 9 there'),
    (('--repetition-penalty=1.1',), folder,
     'repetition_penalty is 1.1 here and 1.0 there'),
    (('--beams=3',), folder, 'beams is 3 here and 1 there'),
    (('--temperature=1',), folder,
     'seed is 0 here and None there; temperature is 1.0 here and 0.0 there'),
    (('--doubts=0.5',), folder, 'doubts is 0.5 here and 0.0 there'),
    (('--template=vicuna_v1',), folder, r'template is \w+ here and \w+ there'),
    ((), other, r'parameters is \w+ here and \w+ there'),
  ):  # fmt: skip
    says = f'has 1 answers that something else made: {differs}. Delete it'
    with pytest.raises(ValueError, match=says):
      ask(*options, by=by)
    assert out.read_bytes() == kept
  ask('--seed=2')  # which greedy answers do not draw from
  assert out.read_bytes() == whole
  (tmp_path / 'out.jsonl.fingerprint.json').unlink()
  with pytest.raises(ValueError, match='no out.jsonl.fingerprint.json beside'):
    ask()
  out.unlink()
  ask(by=other)
  assert out.read_bytes() != whole
