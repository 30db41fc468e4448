"""What asks for a judgement: its words, the facts' order, where it is read."""

import dataclasses
import pickle

import numpy as np
import pytest

from rlhfv_jax.data import chat, judgement
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.rows import assemble, row
from rlhfv_jax.data.templates import template
from rlhfv_jax.playroom import language

FACTS = ('there is a cup.', 'there are two beds.', 'there is a kite.')
ASKS = {
  'question': '{facts}is what you say in the picture?',
  'known': 'the picture shows: ', 'each': '{fact} ', 'reply': '', 'file': '',
}  # fmt: skip


def asks(facts=True, seed=0, **changes):
  return judgement.of(
    ASKS | changes, template('playroom'), facts=facts, seed=seed
  )


def pair(id='a', answers=('there is a cup.', 'there is a bed.'), facts=FACTS,
         asked='what can you see?'):  # fmt: skip
  return Example(id, None, (('user', asked),), answers, facts=facts)


def words():
  return chat.word_tokenizer(language.vocabulary())


def encoded(*examples, suffix, **options):
  return encode_all(list(examples), words(), template('playroom'),
                    image_tokens=0, suffix=suffix, **options)  # fmt: skip


def test_it_is_a_turn_of_the_template_with_the_facts_in_it():
  one = pair(facts=FACTS[:1])
  assert asks()(one) == (
    'user: the picture shows: there is a cup. is what you say in the picture? '
    'assistant:'
  )
  assert asks(facts=False)(one) == (
    'user: is what you say in the picture? assistant:'
  )


def test_the_released_prompt_is_what_its_model_learned(tmp_path):
  path = tmp_path / 'fact_rlhf_reward_prompt.txt'
  path.write_text('\nUSER: Judge it. {factual_prompt}\n\nASSISTANT: It is\n')
  made = judgement.of(ASKS | {'file': str(path)}, template('vicuna_v1'),
                      facts=True, seed=0)  # fmt: skip
  assert made(pair(facts=('A cup.',))) == (
    " USER: Judge it. Specifically, the AI's response should be fully "
    'supported by the combination of the following captions:\n  - A cup.\n'
    '\n\nASSISTANT: It is'
  )
  bare = dataclasses.replace(made, facts=False)
  assert bare(pair(facts=())) == ' USER: Judge it. \n\nASSISTANT: It is'


def test_facts_come_in_an_order_of_the_row_alone():
  orders = {tuple(asks(seed=s).order(pair())) for s in range(20)}
  assert len(orders) == 6
  assert all(sorted(order) == sorted(FACTS) for order in orders)
  made = asks(seed=3)
  again = pickle.loads(pickle.dumps(made))
  other = pair('b', answers=('there is a kite.',))
  assert made(pair()) == again(pair()) == made(other)
  assert len({made(pair(asked=f'{n} cups?')) for n in range(9)}) > 1


def test_both_answers_are_judged_by_the_same_words_and_read_at_their_last():
  made = asks(seed=1)
  rows = encoded(pair(), suffix=made)
  one, ids = row(rows, 0), words()
  told = [ids.decode(one.path(c)) for c in (0, 1)]
  ends = [text.split(ids.eos_token)[-1] for text in told]
  assert ends[0] == ends[1]
  batch = assemble(rows, np.array([0, -1]), (32, 48, 2), read=True)
  for c in (0, 1):
    at = batch['read'][0, c]
    assert ids.decode([batch['tokens'][0, at]]) == ':'
    assert at == 32 + 48 * c + batch['lengths'][0, 1 + c] - 1
    # Nothing of the question is scored, and no token of the other answer.
    scored = ids.decode(batch['tokens'][0][batch['roles'][0, c] > 0])
    assert scored.replace(' ', '') == (
      pair().answers[c].replace(' ', '') + ids.eos_token
    )
  assert batch['read'][1].tolist() == [0, 0]


def test_what_two_answers_share_stands_in_the_trunk_once():
  rows = encoded(pair(), suffix=asks())
  one = row(rows, 0)
  assert one.head == 3  # there is a
  batch = assemble(rows, np.array([0]), (32, 48, 2), read=True)
  assert batch['lengths'][0, 0] == len(one.prompt) + 3


def test_rows_that_cannot_be_judged_are_counted():
  rows = encoded(
    pair(), pair('b', facts=()), pair('c', answers=('a cup.', 'a cup.')),
    pair('d', answers=('a cup.', ' ')), suffix=asks(),
  )  # fmt: skip
  assert rows.kept == 1
  assert dict(rows.reasons) == {
    'no facts': 1, 'equal answers': 1, 'empty answer': 1,
  }  # fmt: skip
  with pytest.raises(RowError, match='config.reward.facts=False'):
    asks()(pair(facts=()))
  assert encoded(pair('b', facts=()), suffix=asks(facts=False)).kept == 1


def test_an_answer_that_says_nothing_can_be_judged():
  empty = pair(answers=('',))
  rows = encoded(empty, suffix=asks(), may_be_empty=True)
  assert rows.kept == 1
  assert encoded(empty, suffix=asks()).kept == 0


@pytest.mark.parametrize('changes, says', [
  ({'question': 'is it so?'}, 'has 0'),
  ({'question': '{facts} {facts}'}, 'has 2'),
  ({'each': '- '}, 'no {fact}'),
  ({'file': 'nowhere.txt'}, 'no reward prompt can be read'),
])  # fmt: skip
def test_words_that_do_not_fit_say_why(changes, says):
  with pytest.raises(ValueError, match=says):
    asks(**changes)
