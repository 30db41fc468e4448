"""Tokenizers in files: read without their library, saved, damaged and named."""

import io
import json
import shutil
import subprocess
import sys

import pytest
from transformers import AutoTokenizer
from vicunas import BYTES, CORPUS, SP, folder, pieces, spm

from rlhfv_jax.data import chat, sentencepiece


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


def test_reading_needs_no_sentencepiece(vicuna_home):
  program = (
    'import sys; sys.modules["sentencepiece"] = None\n'
    'from rlhfv_jax.data import chat\n'
    f'print(chat.load({str(vicuna_home)!r})("a cup").input_ids)'
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


def test_added_tokens_of_another_model_are_refused(vicuna_home, tmp_path):
  wrong = shutil.copytree(vicuna_home, tmp_path / 'wrong')
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
