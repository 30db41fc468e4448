"""Tokens are those the released models were trained on, to the id.

The reference is the SentencePiece library itself, called as the tokenizers of
the time called it: stretches between special tokens one by one.
"""

import copy
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhfv_jax.data import chat, sentencepiece, templates

spm = pytest.importorskip('sentencepiece')

CORPUS = [
  'A chat between a curious human and an artificial intelligence assistant.',
  "The assistant gives helpful, detailed, and polite answers to the human's "
  'questions.',
  'USER: what can you see? ASSISTANT: there is a red cup at the top left.',
  '### Human: is there a café? ### Assistant: über  the cup, two chairs.',
]
MUFFIN = {'[PAD]': 0, '<im_patch>': 1, '<im_start>': 2, '<im_end>': 3}


def trained() -> bytes:
  """A small tokenizer.model like Llama's, with Llama's pieces of hashes."""
  file = io.BytesIO()
  spm.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS * 20),
    model_writer=file,
    model_type='bpe',
    vocab_size=480,
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    allow_whitespace_only_pieces=True,
    split_digits=True,
    minloglevel=2,
  )
  from sentencepiece import sentencepiece_model_pb2

  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(file.getvalue())
  kept = [p for p in proto.pieces if '##' not in p.piece]
  last = min(p.score for p in kept)
  del proto.pieces[:]
  proto.pieces.extend(kept)
  for n, piece in enumerate(['##', '▁##', '▁###']):  # and no '###', as there
    proto.pieces.add(piece=piece, score=last - 1 - n, type=1)
  return proto.SerializeToString()


BYTES = trained()
SP = spm.SentencePieceProcessor(model_proto=BYTES)


def folder(path, config=None, added=None):
  """A tokenizer as released models have it: no tokenizer.json."""
  path.mkdir(exist_ok=True)
  (path / 'tokenizer.model').write_bytes(BYTES)
  config = {'tokenizer_class': 'LlamaTokenizer'} | (config or {})
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  if added:
    (path / 'added_tokens.json').write_text(json.dumps(added))
  return path


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  return folder(tmp_path_factory.mktemp('t') / 'vicuna')


@pytest.fixture(scope='module')
def vicuna(home):
  return chat.load(home)


@pytest.fixture(scope='module')
def muffin(vicuna):
  return chat.fit(vicuna, chat.template('muffin'))


def pieces(tokenizer, text) -> list[str]:
  ids = tokenizer(text, add_special_tokens=False)['input_ids']
  return tokenizer.convert_ids_to_tokens(ids)


_WORDS = ['a', ' ', '  ', '\n', '\t', 'cup', ' the', 'red', '#', '##', '7',
          '🐈‍⬛', '猫', 'café', '.', ',']  # fmt: skip
# What a row is refused for, and the four controls that are white space to
# Python and to nobody else.
_REFUSED = re.compile(r'###|</?s>|<unk>|<im|\[PAD\]|<\||[\0\x1c-\x1f▁]')
TEXT = st.one_of(
  st.text(st.characters(exclude_categories=['Cs'])),
  st.lists(st.sampled_from(_WORDS), max_size=12).map(''.join),
).filter(lambda text: not _REFUSED.search(text))


@settings(max_examples=500, deadline=None)
@given(text=TEXT)
def test_a_text_has_the_tokens_that_sentencepiece_gives_it(vicuna, text):
  assert pieces(vicuna, text) == SP.encode(text, out_type=str)


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_a_text_comes_back_to_the_character(vicuna, text):
  ids = vicuna(text, add_special_tokens=False)['input_ids']
  assert chat.decode(vicuna, ids) == text.strip()
  assert vicuna.unk_token_id not in ids


def test_offsets_are_the_characters_of_a_token(vicuna):
  found = vicuna('a 🐈 cup\n', add_special_tokens=False,
                 return_offsets_mapping=True)  # fmt: skip
  said = [
    (piece, 'a 🐈 cup\n'[start:end])
    for piece, (start, end) in zip(
      vicuna.convert_ids_to_tokens(found['input_ids']),
      found['offset_mapping'],
      strict=True,
    )
  ]
  assert said[:7] == [
    ('▁a', 'a'), ('▁', ' '), ('<0xF0>', '🐈'), ('<0x9F>', '🐈'),
    ('<0x90>', '🐈'), ('<0x88>', '🐈'), ('▁cup', ' cup'),
  ]  # fmt: skip
  assert said[-1] == ('<0x0A>', '\n')


def test_a_stretch_between_special_tokens_begins_with_a_space_of_its_own(
  vicuna, home, tmp_path
):
  assert pieces(vicuna, 'cup</s>USER: </s> USER') == [
    *SP.encode('cup', out_type=str), '</s>',
    *SP.encode('USER: ', out_type=str), '</s>',
    *SP.encode(' USER', out_type=str),
  ]  # fmt: skip
  late = chat.load(folder(tmp_path / 'late', {'legacy': False}))
  assert ''.join(pieces(late, 'cup</s>USER')) == '▁cup</s>USER'
  assert pieces(late, 'a cup') == pieces(vicuna, 'a cup')


# ---- whole conversations, as the original code made them


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


def tokens(tokenizer, name, turns, answer, *, image_tokens, image=True):
  template = chat.template(name)
  stop = chat.stop_text(tokenizer, template)
  return chat.tokenize(
    chat.render(turns, answer, template, stop=stop, image=image),
    tokenizer.backend_tokenizer,
    image_tokens=image_tokens,
    image_token=chat.image_token_id(tokenizer, template),
    begins=chat.beginning(tokenizer),
  )


SYSTEM = (
  'A chat between a curious {0} and an artificial intelligence assistant. The '
  'assistant gives helpful, detailed, and polite answers to the '
  "{0}'s questions."
)
SAID = TEXT.filter(str.strip)


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


LLAMA3 = (
  "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] "
  "+ '<|end_header_id|>\n\n' + (m['content'] | trim) + '<|eot_id|>' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant"
  "<|end_header_id|>\n\n' }}{% endif %}"
)


@pytest.fixture(scope='module')
def llama3():
  """Bytes, and the special tokens of Llama 3."""
  names = ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>',
           '<|end_header_id|>', '<|eot_id|>']  # fmt: skip
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  backend = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens([AddedToken(n, normalized=False) for n in names])
  return PreTrainedTokenizerFast(
    tokenizer_object=backend, bos_token=names[0], eos_token=names[4],
    chat_template=LLAMA3,
  )  # fmt: skip


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


# ---- ids with a meaning


def test_muffins_tokens_stand_behind_vicunas(muffin, vicuna):
  assert len(muffin) == len(vicuna) + 4
  template = chat.template('muffin')
  assert chat.image_token_id(muffin, template) == len(vicuna) + 1
  assert chat.fit(muffin, template).get_vocab() == muffin.get_vocab()
  assert '<im_start>' not in vicuna.get_vocab(), 'the given one is left alone'


def test_a_released_muffin_has_its_tokens_already(home, tmp_path, muffin):
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
  vicuna, home, tmp_path
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


# ---- files


def test_a_saved_tokenizer_is_the_same_in_transformers(muffin, tmp_path):
  """There a Llama class would read the words and not the rules."""
  chat.save(muffin, tmp_path)
  text = ' a cup</s>USER: <im_start><im_end>\nwhy 🐈?'
  for again in (chat.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
    assert pieces(again, text) == pieces(muffin, text)
    assert again.get_vocab() == muffin.get_vocab()
    assert again.eos_token == '</s>' and again.bos_token == '<s>'


def test_empty_names_in_a_config_are_the_usual_ones(tmp_path):
  config = {
    'bos_token': '',
    'eos_token': {'content': '</s>'},
    'unk_token': None,
  }
  made = chat.load(folder(tmp_path / 'old', config))
  assert (made.bos_token_id, made.eos_token_id, made.unk_token_id) == (1, 2, 0)


def test_reading_needs_no_sentencepiece(home):
  program = (
    'import sys; sys.modules["sentencepiece"] = None\n'
    'from rlhfv_jax.data import chat\n'
    f'print(chat.load({str(home)!r})("a cup").input_ids)'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert json.loads(done.stdout) == SP.encode('a cup')


def test_a_folder_without_a_tokenizer_says_what_to_copy(tmp_path):
  with pytest.raises(ValueError, match='no tokenizer.json and no tokenizer.m'):
    chat.load(tmp_path)
  with pytest.raises(ValueError, match='/nowhere: no such folder, and no repo'):
    chat.load(tmp_path / 'nowhere')


@pytest.mark.parametrize(
  'content',
  [b'', b'no model', BYTES[: len(BYTES) // 2], BYTES[:-1], b'\x0a\xff\xff\x01'],
  ids=['nothing', 'text', 'half', 'one byte less', 'long'],
)
def test_a_damaged_model_is_named(tmp_path, content):
  (tmp_path / 'tokenizer.model').write_bytes(content)
  with pytest.raises(
    ValueError, match=f'tokenizer.model: {len(content)} bytes that are no Sent'
  ):
    chat.load(tmp_path)


@pytest.mark.parametrize('content', ['{"version": "1.0", "tr', '{}', '<html>'])
def test_a_damaged_tokenizer_json_is_named(tmp_path, content):
  (tmp_path / 'tokenizer.json').write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer\.json does not read.*again'):
    chat.load(tmp_path)


def test_another_kind_of_model_is_refused(tmp_path):
  file = io.BytesIO()
  spm.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS * 20), model_writer=file, vocab_size=75,
    model_type='unigram', minloglevel=2,
  )  # fmt: skip
  (tmp_path / 'tokenizer.model').write_bytes(file.getvalue())
  with pytest.raises(ValueError, match='not a tokenizer as Llama has it'):
    chat.load(tmp_path)


def test_added_tokens_of_another_model_are_refused(home, tmp_path):
  wrong = shutil.copytree(home, tmp_path / 'wrong')
  (wrong / 'added_tokens.json').write_text('{"[PAD]": 32000}')
  n = SP.get_piece_size()
  with pytest.raises(ValueError, match=rf"'\[PAD\]' has id 32000 .* to {n} "):
    chat.load(wrong)


def test_a_models_file_is_read_as_protobuf_reads_it():
  from sentencepiece import sentencepiece_model_pb2

  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(BYTES)
  model = sentencepiece.parse(BYTES, 'x')
  assert model.pieces == [p.piece for p in proto.pieces]
  assert model.scores == [p.score for p in proto.pieces]
  assert model.types == [p.type for p in proto.pieces]
