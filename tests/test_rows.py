"""Examples become rows: what is scored, what is corrected, and their names."""

import dataclasses
import json

import numpy as np
import pytest
from test_chat import KINDS_AND_TEMPLATES, TOKENIZER, TOKENIZERS, WORDS

from rlhfv_jax.data import chat, muffin_diff
from rlhfv_jax.data.encode import encode
from rlhfv_jax.data.rows import Example, Row, from_dict, path_key, to_dict

PLAYROOM = chat.template('playroom')
ASK = (('user', 'what can you see?'),)
CHOSEN = 'there is a red cup at the top left. there are two chairs.'
REJECTED = 'there is a blue cup at the top left. there are three chairs.'
PAIR = Example('pair', b'png', ASK, (CHOSEN, REJECTED))
CHAT = Example(
  'chat',
  b'png',
  (
    ('user', 'is there a cup?'),
    ('assistant', 'yes'),
    ('user', 'what colour is the cup?'),
  ),
  ('red',),
)


def made(example, *, tokenizer=TOKENIZER, template=PLAYROOM, **options):
  options = {'image_tokens': 4} | options
  return encode(example, tokenizer, template, **options)


def words(one: Row, answer: int, role: int) -> str:
  ids = one.path(answer)[one.roles[answer] == role]
  return ' '.join(TOKENIZER.convert_ids_to_tokens(ids.tolist()))


def test_a_pair_is_scored_on_its_answers_with_their_stop():
  one = made(PAIR)
  assert words(one, 0, 2) == 'red two'
  assert words(one, 1, 2) == 'blue three'
  for answer in (0, 1):
    roles = one.roles[answer]
    assert (roles[: len(one.prompt)] == 0).all()
    assert (roles[len(one.prompt) :] > 0).all()
    assert one.answers[answer][-1] == TOKENIZER.eos_token_id
    assert roles[-1] == 1


def test_the_head_is_what_the_answers_share():
  one = made(PAIR)
  shared = one.answers[0][: one.head]
  np.testing.assert_array_equal(shared, one.answers[1][: one.head])
  assert one.answers[0][one.head] != one.answers[1][one.head]
  assert chat.decode(TOKENIZER, shared) == 'there is a'


def test_given_spans_are_believed():
  at = CHOSEN.index('cup')
  spans = (((at, at + 3, 'object'),), ())
  one = made(dataclasses.replace(PAIR, spans=spans))
  assert words(one, 0, 2) == 'cup'
  assert words(one, 1, 2) == ''


def test_all_answers_of_a_lone_conversation_are_scored():
  one = made(CHAT)
  assert words(one, 0, 1) == 'yes <end> red <end>'
  assert one.head == len(one.answers[0])


def test_earlier_answers_of_a_pair_are_not_scored():
  pair = dataclasses.replace(CHAT, answers=('red', 'blue'))
  assert words(made(pair), 0, 1) == '<end>'
  assert words(made(pair), 0, 2) == 'red'


def test_tags_are_scored_where_the_recipe_says():
  one = made(CHAT, score_template=True)
  assert words(one, 0, 1) == ('assistant : yes <end> assistant : red <end>')


def test_muffins_roles_are_its_diff_of_whole_rows():
  pair = dataclasses.replace(
    PAIR, answers=(CHOSEN, REJECTED.replace('a blue', 'one dark blue'))
  )
  tokenizer = chat.word_tokenizer([*WORDS, 'dark'])
  one = made(pair, tokenizer=tokenizer, diff='muffin', score_template=True)
  plain = made(pair, tokenizer=tokenizer, score_template=True)
  chosen, rejected = one.path(0)[1:].tolist(), one.path(1)[1:].tolist()
  expected = muffin_diff.roles(rejected, chosen)[::-1]
  for c in (0, 1):
    roles = one.roles[c]
    np.testing.assert_array_equal(roles[1:], expected[c] * (roles[1:] > 0))
    np.testing.assert_array_equal(roles > 0, plain.roles[c] > 0)
  assert (one.roles[0] == 2).sum() == 3  # a red, two
  assert (one.roles[1] == 2).sum() == 4  # one dark blue, three


@pytest.mark.parametrize('kind, name', KINDS_AND_TEMPLATES)
def test_corrected_tokens_hold_what_was_corrected_in_every_template(kind, name):
  tokenizer, template = TOKENIZERS[kind], chat.template(name)
  one = made(PAIR, tokenizer=tokenizer, template=template)
  for answer, expected in ((0, ['red', 'two']), (1, ['blue', 'three'])):
    path, roles = one.path(answer), one.roles[answer]
    edges = np.flatnonzero(np.diff(np.r_[0, roles == 2, 0]))
    found = [
      tokenizer.decode(path[a:b].tolist()).strip()
      for a, b in edges.reshape(-1, 2)
    ]
    assert found == expected
    scored = tokenizer.decode(path[roles > 0].tolist()).strip()
    scored = scored.removeprefix('Assistant: ')  # where the model writes it
    assert scored.startswith(PAIR.answers[answer])


def test_what_follows_an_answer_is_not_scored():
  plain, asked = made(PAIR), made(PAIR, suffix=' is there a cup?')
  for answer in (0, 1):
    n = len(plain.path(answer))
    np.testing.assert_array_equal(asked.path(answer)[:n], plain.path(answer))
    np.testing.assert_array_equal(asked.roles[answer][:n], plain.roles[answer])
    assert (asked.roles[answer][n:] == 0).all()
    assert len(asked.path(answer)) > n


def test_a_question_is_a_row_without_scores():
  one = made(dataclasses.replace(PAIR, answers=()))
  np.testing.assert_array_equal(one.prompt, made(PAIR).prompt)
  assert len(one.answers[0]) == one.head == 0
  for asked in (PAIR, CHAT):
    asked = dataclasses.replace(asked, answers=())
    assert not made(asked, score_template=True).roles[0].any()


def test_the_pictures_mark_in_a_turn_changes_nothing():
  marked = dataclasses.replace(PAIR, turns=(('user', '<image>\n' + ASK[0][1]),))
  np.testing.assert_array_equal(made(marked).prompt, made(PAIR).prompt)


def test_a_paths_name_is_its_tokens_and_its_picture():
  exact, muffin = made(PAIR), made(PAIR, diff='muffin')
  name = path_key(exact, 0, 'picture')
  assert name == path_key(muffin, 0, 'picture')
  other = dataclasses.replace(PAIR, answers=(CHOSEN, 'there is a lamp.'))
  assert name == path_key(made(other), 0, 'picture')
  different = {
    name,
    path_key(exact, 1, 'picture'),
    path_key(exact, 0, 'another'),
    path_key(exact, 0, None),
    path_key(made(PAIR, score_template=True), 0, 'picture'),
    path_key(made(PAIR, image_tokens=5), 0, 'picture'),
  }
  assert len(different) == 6


def test_an_example_survives_json():
  spans = (((0, 5, 'object'),), ())
  for example in (PAIR, CHAT, dataclasses.replace(PAIR, spans=spans)):
    plain = to_dict(dataclasses.replace(example, image=None))
    again = from_dict(json.loads(json.dumps(plain)))
    assert dataclasses.replace(again, image=example.image) == example
