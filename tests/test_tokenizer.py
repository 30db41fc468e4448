"""Tokens are those the released models were trained on, to the id.

The reference is the SentencePiece library itself, called as the tokenizers of
the time called it: stretches between special tokens one by one.
"""

from hypothesis import given, settings
from vicunas import SP, TEXT, folder, pieces

from rlhfv_jax.data import chat


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
  vicuna, vicuna_home, tmp_path
):
  assert pieces(vicuna, 'cup</s>USER: </s> USER') == [
    *SP.encode('cup', out_type=str), '</s>',
    *SP.encode('USER: ', out_type=str), '</s>',
    *SP.encode(' USER', out_type=str),
  ]  # fmt: skip
  late = chat.load(folder(tmp_path / 'late', {'legacy': False}))
  assert ''.join(pieces(late, 'cup</s>USER')) == '▁cup</s>USER'
  assert pieces(late, 'a cup') == pieces(vicuna, 'a cup')
