"""Whole conversations have the tokens that the original code made of them.

The reference is the SentencePiece library, called as the tokenizers of the
time called it: stretches between special tokens one by one.
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vicunas import MUFFIN, SAID, SP, like_llama3, tokens

from rlhfv_jax.data import chat


def as_slow(text, known, *, strip=False) -> list[int]:
  """Tokens as transformers' Python tokenizers made them: cut, then each part.

  Up to 4.30 white space beside an added token was lost (`strip`).
  """
  ids = [SP.bos_id()]
  parts = re.split(f'({"|".join(map(re.escape, known))})', text)
  for i, part in enumerate(parts):
    if part in known:
      ids.append(known[part])
    else:
      if strip and i:
        part = part.lstrip()
      if strip and i + 1 < len(parts):
        part = part.rstrip()
      ids += SP.encode(part)
  return ids


SYSTEM = (
  'A chat between a curious {0} and an artificial intelligence assistant. The '
  'assistant gives helpful, detailed, and polite answers to the '
  "{0}'s questions."
)


@settings(max_examples=200, deadline=None)
@given(question=SAID, answers=st.tuples(SAID, SAID))
@pytest.mark.parametrize('who', ['user', 'human'])
def test_llavas_conversation_is_its_chunks_around_the_picture(
  vicuna, who, question, answers
):
  """One start token, then each chunk of text tokenised for itself."""
  name = {'user': 'vicuna_v1', 'human': 'llava_v1'}[who]
  turns = (('user', question), ('assistant', answers[0]), ('user', 'why?'))
  found = tokens(vicuna, name, turns, answers[1], image_tokens=5)
  text = (
    f'{SYSTEM.format(who)} USER: <image>\n{question} ASSISTANT: {answers[0]}'
    f'</s>USER: why? ASSISTANT: {answers[1]}</s>'
  )
  before, after = text.split('<image>')
  ends = {'</s>': SP.eos_id()}
  picture = [SP.get_piece_size()] * 5
  expected = as_slow(before, ends) + picture + as_slow(after, ends)[1:]
  assert found.ids.tolist() == expected


def muffin_ids(tokenizer):
  n = SP.get_piece_size()
  known = {token: n + i for token, i in MUFFIN.items()}
  assert {t: tokenizer.get_vocab()[t] for t in MUFFIN} == known
  return known


@settings(max_examples=200, deadline=None)
@given(question=SAID, answer=SAID, image=st.booleans())
def test_muffins_training_row_is_its_string_with_64_patches(
  muffin, question, answer, image
):
  found = tokens(
    muffin, 'muffin', (('user', question),), answer, image_tokens=64,
    image=image,
  )  # fmt: skip
  picture = f'<im_start>{"<im_patch>" * 64}<im_end>\n' * image
  text = (
    f'{SYSTEM.format("human")}\n\n### Human: {picture}{question}\n'
    f'### Assistant: {answer}\n### '
  )
  expected = as_slow(text, muffin_ids(muffin), strip=True)
  assert found.ids.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(question=SAID)
def test_muffin_is_asked_with_the_picture_after_the_question(muffin, question):
  found = tokens(
    muffin, 'muffin_eval', (('user', question),), None, image_tokens=64
  )
  text = (
    f'{SYSTEM.format("human")}\n###Human: {question}\n'
    f'<im_start>{"<im_patch>" * 64}<im_end>\n###'
  )
  assert found.ids.tolist() == as_slow(text, muffin_ids(muffin), strip=True)


@settings(max_examples=100, deadline=None)
@given(question=SAID, answers=st.tuples(SAID, SAID))
def test_muffins_tags_are_where_its_counting_put_them(
  muffin, question, answers
):
  """Every part counted alone, with a start token; people lose all but two."""
  known = muffin_ids(muffin)
  picture = f'<im_start>{"<im_patch>" * 4}<im_end>\n'
  header = f'{SYSTEM.format("human")}\n\n'
  people = [f'### Human: {picture}{question}\n', '### Human: why?\n']
  machine = [f'### Assistant: {answer}\n' for answer in answers]
  at, scored = len(as_slow(header, known, strip=True)), []
  scored += [False] * at
  for asked, said in zip(people, machine, strict=True):
    asked = len(as_slow(asked, known, strip=True))
    scored += [True] * 2 + [False] * (asked - 2)
    scored += [True] * len(as_slow(said, known, strip=True))
  turns = (('user', question), ('assistant', answers[0]), ('user', 'why?'))
  found = tokens(muffin, 'muffin', turns, answers[1], image_tokens=4)
  scored += [True] * (len(found.ids) - len(scored))
  assert (found.kinds != chat.CONTEXT).tolist() == scored
  tail = muffin.convert_ids_to_tokens(found.ids[-4:].tolist())
  assert tail == ['<0x0A>', '##', '#', '▁']


@settings(max_examples=100, deadline=None)
@given(caption=SAID)
def test_a_plain_row_is_a_picture_and_its_caption(vicuna, caption):
  turns = (('user', 'what is this?'),)
  found = tokens(vicuna, 'plain', turns, caption, image_tokens=3)
  picture = [SP.get_piece_size()] * 3
  assert found.ids.tolist() == [
    SP.bos_id(),
    *picture,
    *SP.encode(caption + '\n'),
  ]
  assert found.prompt == 4
  assert (found.kinds[4:] == chat.ANSWER).all()


@pytest.fixture(scope='module')
def llama3():
  return like_llama3()


@settings(max_examples=100, deadline=None)
@given(
  said=st.lists(SAID.map(str.strip), min_size=3, max_size=3), last=st.booleans()
)
def test_llama_3_is_asked_as_its_chat_template_asks(llama3, said, last):
  turns = tuple(
    (('user', 'assistant')[i % 2], text) for i, text in enumerate(said)
  )
  answer = 'so be it' if last else None
  found = tokens(llama3, 'llama3', turns, answer, image_tokens=0, image=False)
  messages = [{'role': role, 'content': text} for role, text in turns]
  if last:
    messages.append({'role': 'assistant', 'content': answer})
  expected = llama3.apply_chat_template(
    messages, add_generation_prompt=not last, return_dict=False
  )
  assert found.ids.tolist() == expected
