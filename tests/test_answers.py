"""Answers: kept as they come; who was stopped ends in the same file."""

import functools
import itertools
import re

import jax
import pytest
from test_generate import scattered

from rlhfv_jax import answers, models, sharding
from rlhfv_jax.data import chat
from rlhfv_jax.data.rows import Example
from rlhfv_jax.generate import Decoding, serving

WORDS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight']
TOKENIZER = chat.word_tokenizer(WORDS)
TEMPLATE = chat.template('playroom')
TEXT = dict(
  vocab_size=len(TOKENIZER), width=32, mlp=48, depth=2, heads=4, kv_heads=2,
  max_length=32,
)  # fmt: skip


@functools.cache
def made():
  model = models.build(dict(text=TEXT))
  return model, scattered(model, 0.3)


def questions(n=20):
  texts = itertools.islice(itertools.permutations(WORDS, 3), n)
  return [
    Example(str(i), None, (('user', ' '.join(text[: 1 + i % 3])),))
    for i, text in enumerate(texts)
  ]


def said(path, asked, **change):
  ends = chat.stops(TOKENIZER, TEMPLATE).stop
  decoding = Decoding(12, **{'temperature': 1.0, 'stop': ends, **change})
  return answers.answer(
    *made(), asked, tokenizer=TOKENIZER, template=TEMPLATE, image_size=8,
    image_policy='squash', decoding=decoding, batch=8,
    key=jax.random.key(0), path=path, name='answers',
    mesh=sharding.make_mesh(),
  )  # fmt: skip


@pytest.mark.parametrize('change', [{}, {'temperature': 0.0, 'beams': 3}])
def test_a_stopped_run_ends_in_the_same_bytes(tmp_path, change, capsys):
  asked = questions()
  rows = said(tmp_path / 'whole.jsonl', asked, **change)
  assert re.search(r'20/20 .* tokens/s', capsys.readouterr().err)
  whole = (tmp_path / 'whole.jsonl').read_bytes()
  assert [row['id'] for row in rows] == [q.id for q in asked]
  assert len({row['answer'] for row in rows}) > 3
  lines = whole.splitlines(keepends=True)
  for kept in (b'', b''.join(lines[:5]) + lines[5][:9], b''.join(lines[:11])):
    path = tmp_path / f'{len(kept)}.jsonl'
    path.write_bytes(kept)
    assert said(path, asked, **change) == rows
    assert path.read_bytes() == whole


def test_the_file_holds_the_first_so_many_whenever_it_is_stopped(
  tmp_path, monkeypatch
):
  asked, path = questions(), tmp_path / 'answers.jsonl'
  rows = said(tmp_path / 'whole.jsonl', asked)
  stream = serving.stream
  for cut in (3, 9):
    path.unlink(missing_ok=True)

    def some(*args, cut=cut, **options):
      yield from itertools.islice(stream(*args, **options), cut)
      raise KeyboardInterrupt

    monkeypatch.setattr(serving, 'stream', some)
    with pytest.raises(KeyboardInterrupt):
      said(path, asked)
    monkeypatch.setattr(serving, 'stream', stream)
    kept = path.read_text().splitlines() if path.exists() else []
    assert len(kept) <= cut
    assert said(path, asked) == rows


def test_answers_to_other_questions_are_not_taken(tmp_path):
  path = tmp_path / 'answers.jsonl'
  said(path, questions(3))
  with pytest.raises(ValueError, match='other questions'):
    said(path, questions(5)[1:])
