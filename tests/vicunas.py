"""Tokenizers as released models have them, small: a Vicuna's and a Llama 3's.

The reference is the SentencePiece library itself.
"""

import io
import json
import re

import pytest
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhfv_jax.data import chat

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


SAID = TEXT.filter(str.strip)


LLAMA3 = (
  "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] "
  "+ '<|end_header_id|>\n\n' + (m['content'] | trim) + '<|eot_id|>' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant"
  "<|end_header_id|>\n\n' }}{% endif %}"
)


def like_llama3():
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
