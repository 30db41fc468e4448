"""Tokens with a meaning: which they are in each family, which end an answer."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vicunas import MUFFIN, SAID, SP, folder, like_llama3, pieces, tokens

from rlhfv_jax.data import chat, templates


@pytest.fixture(scope='module')
def llama3():
  return like_llama3()


def test_muffins_tokens_stand_behind_vicunas(muffin, vicuna):
  assert len(muffin) == len(vicuna) + 4
  template = chat.template('muffin')
  assert chat.image_token_id(muffin, template) == len(vicuna) + 1
  assert chat.fit(muffin, template).get_vocab() == muffin.get_vocab()
  assert '<im_start>' not in vicuna.get_vocab(), 'the given one is left alone'


def test_a_released_muffin_has_its_tokens_already(
  vicuna_home, tmp_path, muffin
):
  n = SP.get_piece_size()
  added = {token: n + i for token, i in MUFFIN.items()}
  released = chat.load(folder(tmp_path / 'm', added=added))
  fitted = chat.fit(released, chat.template('muffin'))
  row = 'Human: <im_start><im_end>\nwhat?'
  assert pieces(fitted, row) == pieces(muffin, row)
  assert fitted.get_vocab() == muffin.get_vocab()


def test_half_of_a_familys_tokens_is_another_family(vicuna):
  half = copy.deepcopy(vicuna)
  half.add_tokens(['<im_start>'])
  with pytest.raises(ValueError, match=r'lacks \[PAD\], <im_patch>, <im_end>'):
    chat.fit(half, chat.template('muffin'))


def test_llavas_picture_is_past_vicunas_vocabulary_or_transformers_own_token(
  vicuna, vicuna_home, tmp_path
):
  template = chat.template('vicuna_v1')
  n = SP.get_piece_size()
  assert chat.image_token_id(vicuna, template) == len(vicuna) == n
  added = {'<image>': n, '<pad>': n + 1}
  hf = chat.load(folder(tmp_path / 'hf', added=added))
  assert chat.image_token_id(hf, template) == n and len(hf) == n + 2
  rows = [
    tokens(t, 'vicuna_v1', (('user', 'what?'),), 'a cup', image_tokens=4).ids
    for t in (vicuna, hf)
  ]
  np.testing.assert_array_equal(*rows)


def test_what_ends_an_answer_in_each_family(vicuna, muffin, llama3):
  eos = vicuna.eos_token_id
  for name in ('vicuna_v1', 'llava_v1'):
    assert chat.stops(vicuna, chat.template(name)) == ((eos,), ())
  for name in ('muffin', 'muffin_eval'):
    ids, spelled = chat.stops(muffin, chat.template(name))
    said = muffin.convert_ids_to_tokens(list(ids))
    assert set(said) == {'</s>', '▁###'} and spelled
  ids, _ = chat.stops(vicuna, chat.template('plain'))
  assert vicuna.convert_ids_to_tokens(list(ids)) == ['</s>', '<0x0A>']
  ids, spelled = chat.stops(llama3, chat.template('llama3'))
  said = llama3.convert_ids_to_tokens(list(ids))
  assert set(said) == {'<|eot_id|>', '<|end_of_text|>'} and not spelled


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_text_that_ends_answers_is_spelled_in_any_tokens(muffin, data):
  """Its last stage is reached with the token that makes it whole."""
  stops = chat.stops(muffin, chat.template('muffin'))
  marks = [i for i, *_ in stops.spelled]
  other = muffin('a cup', add_special_tokens=False)['input_ids']
  ids = data.draw(st.lists(st.sampled_from([*marks, *other]), max_size=9))
  stages = {token: led for token, *led in stops.spelled}
  last, stage, over = len(stops.spelled[0]) - 1, 0, None
  for n, token in enumerate(ids, 1):
    stage = stages.get(token, (0,) * last)[stage]
    if stage == last:
      over = n
      break
  texts = [
    muffin.decode(ids[:n], skip_special_tokens=True)
    for n in range(len(ids) + 1)
  ]
  want = next((n for n, text in enumerate(texts) if '###' in text), None)
  assert over == want


@settings(max_examples=100, deadline=None)
@given(answer=SAID.map(str.strip), name=st.sampled_from(sorted(chat.TEMPLATES)))
def test_an_answer_is_read_out_of_its_own_row(muffin, answer, name):
  """What was written after the prompt, stop and all, says the answer again."""
  if name == 'plain' and '\n' in answer:
    return
  template = chat.template(name)
  row = tokens(muffin, name, (('user', 'what?'),), answer, image_tokens=2)
  more = muffin('Human: and then?', add_special_tokens=False)['input_ids']
  written = [*row.ids[row.prompt :].tolist(), *more]
  assert chat.decode(muffin, written, template) == answer


@pytest.mark.parametrize(
  'written, answer',
  [
    ('Assistant: a cup.\n###Human: and', 'a cup.'),
    (' a cup. ### Human:', 'a cup.'),
    ('a cup', 'a cup'),
    ('### a cup', ''),
    ('Assistant:', ''),
  ],
)
def test_what_a_muffin_wrote_is_cut_at_hashes(written, answer):
  assert templates.answer(written, chat.template('muffin_eval')) == answer
