"""Templates to the letter, and tokens that know their characters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlhfv_jax.data import chat
from rlhfv_jax.playroom import language

WORDS = language.vocabulary()
TOKENIZER = chat.word_tokenizer(WORDS)
CORPUS = [
  'A chat between a curious human and an artificial intelligence assistant.',
  'there is a red cup at the top left. USER: ASSISTANT: ### Human: Assistant:',
]


def subword_tokenizer(kind: str) -> PreTrainedTokenizerFast:
  """Small tokenizers that cut words as GPT's and as Llama's do."""
  if kind == 'words':
    return TOKENIZER
  tokenizer = Tokenizer(models.BPE(byte_fallback=kind == 'metaspace'))
  if kind == 'bytes':
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
  else:
    split = pre_tokenizers.Metaspace(prepend_scheme='first')
    tokenizer.decoder = decoders.Sequence(
      [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme='first')]
    )
    alphabet = []
  tokenizer.pre_tokenizer = split
  special = ['<s>', '</s>'] + [f'<0x{i:02X}>' for i in range(256)]
  tokenizer.train_from_iterator(
    CORPUS,
    trainers.BpeTrainer(
      vocab_size=len(special) + 340,
      special_tokens=special,
      initial_alphabet=alphabet,
      show_progress=False,
    ),
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token='<s>', eos_token='</s>'
  )


TOKENIZERS = {
  kind: subword_tokenizer(kind) for kind in ('words', 'bytes', 'metaspace')
}


def said(name, turns, answer, *, stop='</s>', image=True, suffix=''):
  pieces = chat.render(
    turns,
    answer,
    chat.template(name),
    stop=chat.template(name).stop or stop,
    image=image,
    suffix=suffix,
  )
  return ''.join(text for text, _ in pieces)


TURNS = (('user', 'Q1'), ('assistant', 'A1'), ('user', 'Q2'))
SYSTEM = (
  'A chat between a curious {} and an artificial intelligence assistant. The '
  "assistant gives helpful, detailed, and polite answers to the {}'s questions."
)


@pytest.mark.parametrize(
  'name, text',
  [
    (
      'playroom',
      '<image> user: Q1 assistant: A1</s>user: Q2 assistant: A2</s>',
    ),
    (
      'vicuna_v1',
      SYSTEM.format('user', 'user')
      + ' USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>',
    ),
    (
      'llava_v1',
      SYSTEM.format('human', 'human')
      + ' USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>',
    ),
    (
      'muffin',
      SYSTEM.format('human', 'human')
      + '\n\n### Human: <im_start><image><im_end>\nQ1\n### Assistant: A1\n'
      '### Human: Q2\n### Assistant: A2\n### ',
    ),
    (
      'muffin_eval',
      SYSTEM.format('human', 'human')
      + '\n###Human: Q1\n<im_start><image><im_end>\n### Assistant: A1\n###'
      'Human: Q2\n### Assistant: A2\n###',
    ),
    ('plain', '<image>A1\nA2\n'),
    (
      'llama3',
      '<|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|>'
      '<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>'
      '<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>'
      '<|start_header_id|>assistant<|end_header_id|>\n\nA2<|eot_id|>',
    ),
  ],
)
def test_a_conversation_is_written_to_the_letter(name, text):
  assert said(name, TURNS, 'A2') == text
  assert name in chat.TEMPLATES


def test_every_template_is_tested():
  assert len(chat.TEMPLATES) == 7


def test_without_a_picture_there_is_no_placeholder():
  text = said('vicuna_v1', TURNS, 'A2', image=False)
  assert chat.IMAGE not in text and 'USER: Q1 ASSISTANT:' in text


def test_braces_in_a_turn_stay_what_they_are():
  text = said('vicuna_v1', (('user', 'what is {image}?'),), '{text} {0}')
  assert 'what is {image}?' in text and ' {text} {0}</s>' in text


def test_an_unknown_template_is_named_with_the_known_ones():
  with pytest.raises(ValueError, match="'vicuna'.*vicuna_v1"):
    chat.template('vicuna')


def tokens(kind, name, answer='there is a red cup.', image_tokens=3, suffix=''):
  tokenizer, template = TOKENIZERS[kind], chat.template(name)
  pieces = chat.render(
    (('user', 'what can you see?'),),
    answer,
    template,
    stop=chat.stop_text(tokenizer, template),
    image=True,
    suffix=suffix,
  )
  return chat.tokenize(
    pieces,
    tokenizer.backend_tokenizer,
    image_tokens=image_tokens,
    image_token=chat.image_token_id(tokenizer),
    begins=chat.beginning(tokenizer),
  )


KINDS_AND_TEMPLATES = [
  (kind, name)
  for kind in TOKENIZERS
  for name in chat.TEMPLATES
  if kind != 'words' or name == 'playroom'
]


@pytest.mark.parametrize('kind, name', KINDS_AND_TEMPLATES)
def test_the_prompt_alone_has_the_tokens_it_has_before_an_answer(kind, name):
  alone, whole = tokens(kind, name, None), tokens(kind, name)
  assert alone.prompt == len(alone.ids) == whole.prompt < len(whole.ids)
  np.testing.assert_array_equal(alone.ids, whole.ids[: whole.prompt])


@pytest.mark.parametrize('kind, name', KINDS_AND_TEMPLATES)
def test_the_answer_is_its_own_characters_and_the_stop(kind, name):
  found = tokens(kind, name, suffix=' there is')
  answer = found.kinds == chat.ANSWER
  start, end = found.offsets[answer][[0, -1], [0, 1]]
  stop = chat.stop_text(TOKENIZERS[kind], chat.template(name))
  said = f'there is a red cup.{stop}'.strip()
  if name == 'muffin_eval':
    said = f'Assistant: {said}'
  assert found.text[start:end].strip() == said
  assert found.text[end:] == ' there is'
  assert not answer[: found.prompt].any()


@pytest.mark.parametrize('count', [0, 1, 16])
@pytest.mark.parametrize('kind, name', KINDS_AND_TEMPLATES)
def test_a_picture_takes_as_many_placeholders_as_asked(kind, name, count):
  found = tokens(kind, name, image_tokens=count)
  mark = chat.image_token_id(TOKENIZERS[kind])
  (places,) = np.nonzero(found.ids == mark)
  assert len(places) == count
  assert (np.diff(places) == 1).all()
  others = found.ids != mark
  np.testing.assert_array_equal(
    found.ids[others], tokens(kind, name, image_tokens=0).ids
  )


def test_the_placeholder_is_past_a_vocabulary_that_lacks_it():
  assert chat.image_token_id(TOKENIZER) < len(TOKENIZER)
  assert chat.image_token_id(TOKENIZERS['bytes']) == len(TOKENIZERS['bytes'])


@pytest.mark.parametrize('kind', TOKENIZERS)
def test_a_conversation_begins_with_one_start_token(kind):
  ids, first = tokens(kind, 'playroom').ids, TOKENIZERS[kind].bos_token_id
  assert ids[0] == first and (ids[1:] != first).all()


def test_muffins_tags_are_its_hashes_and_the_assistants_name():
  found = tokens('bytes', 'muffin')
  tags = [
    found.text[s:e]
    for (s, e), kind in zip(found.offsets, found.kinds, strict=True)
    if kind == chat.TAG
  ]
  assert ''.join(tags) == '###### Assistant:'


WORD = st.sampled_from([w for w in WORDS if w.isalnum()])
MARK = st.sampled_from(list('.,?:;!'))
SENTENCE = st.tuples(st.lists(WORD, min_size=1, max_size=8), MARK).map(
  lambda parts: ' '.join(parts[0]) + parts[1]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=6).map(' '.join))
def test_the_playrooms_language_comes_back_to_the_character(text):
  ids = TOKENIZER(text, add_special_tokens=False)['input_ids']
  assert chat.decode(TOKENIZER, ids) == text
  assert TOKENIZER.unk_token_id not in ids


def test_padding_is_token_zero():
  assert TOKENIZER.pad_token_id == 0


def test_an_answer_ends_at_the_first_end():
  words = TOKENIZER('there is a cup.', add_special_tokens=False)['input_ids']
  end = TOKENIZER.eos_token_id
  ids = np.array([*words, end, *words, end, 0, 0])
  assert chat.decode(TOKENIZER, ids) == 'there is a cup.'
  assert chat.decode(TOKENIZER, words + [len(TOKENIZER) + 5]) == (
    'there is a cup.'
  )


def test_two_words_are_not_a_word():
  with pytest.raises(ValueError, match="'dining table' is not one word"):
    chat.word_tokenizer(['dining table'])


def test_a_saved_tokenizer_reads_back_the_same(tmp_path):
  chat.save(TOKENIZER, tmp_path)
  again = chat.load(tmp_path)
  text = 'there is a red cup at the top left. there are two chairs.<end>'
  assert again(text)['input_ids'] == TOKENIZER(text)['input_ids']
  assert chat.decode(again, again(text)['input_ids']) == text[:-5]
  for name in ('pad', 'bos', 'eos', 'unk'):
    key = f'{name}_token_id'
    assert getattr(again, key) == getattr(TOKENIZER, key)
  assert chat.image_token_id(again) == chat.image_token_id(TOKENIZER)
