"""Examples that no row can be made of: refused, counted, and told why."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from test_chat import TOKENIZER, TOKENIZERS
from test_rows import ASK, CHAT, CHOSEN, PAIR, PLAYROOM, REJECTED, made

from rlhfv_jax.data import chat
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import Example, RowError, lengths, pack, row


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'answers': ('', CHOSEN)}, 'empty answer'),
    ({'answers': (' \n', CHOSEN)}, 'empty answer'),
    ({'answers': (CHOSEN, CHOSEN)}, 'equal answers'),
    (
      {'answers': (CHOSEN, CHOSEN.replace('. ', '.  '))},
      'equal answers: they differ in text but not in tokens',
    ),
    (
      {'answers': ('a <image>.', CHOSEN)},
      "special token in the text: an answer holds '<image>'",
    ),
    ({'answers': ('a cup.<end>', CHOSEN)}, "an answer holds '<end>'"),
    ({'answers': ('a \ud83d cup.', CHOSEN)}, 'half a character: in'),
    ({'turns': (('user', 'a <pad> cup?'),)}, "a turn holds '<pad>'"),
    ({'answers': ('there is a zeppelin.',)}, 'unknown word: an answer holds'),
    ({'turns': ()}, 'turns out of order'),
    ({'turns': (*ASK, *ASK)}, r"turns out of order: \['user', 'user'\]"),
    ({'turns': (*ASK, ('assistant', 'yes'))}, 'turns out of order'),
    (
      {'image': None, 'turns': (('user', '<image> is there a cup?'),)},
      'image placeholder: 1 in the turns, 0 picture',
    ),
    (
      {'spans': (((0, 999, 'object'),), ())},
      rf'span outside its answer: \(0, 999\) of {len(CHOSEN)} characters',
    ),
    ({'spans': ((),)}, 'spans: for 1 answers of 2'),
  ],
)
def test_an_unusable_row_says_why(change, reason):
  with pytest.raises(RowError, match=reason):
    made(dataclasses.replace(PAIR, **change))


def test_a_tokenizer_that_joins_prompt_and_answer_is_refused():
  template = chat.Template(user='{image}{text}', assistant='', answer='{text}')
  joined = Example('a', None, (('user', 't'),), ('here is a cup.', 'here is'))
  with pytest.raises(RowError, match='prompt and answer joined'):
    made(joined, tokenizer=TOKENIZERS['bytes'], template=template)


def test_an_unknown_diff_is_named():
  with pytest.raises(ValueError, match="'lcs'.*exact"):
    made(PAIR, diff='lcs')


def png() -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (8, 8), 'red').save(file, 'PNG')
  return file.getvalue()


def test_unusable_rows_are_counted_and_keep_their_number():
  good = dataclasses.replace(PAIR, image=png())
  examples = [
    good,
    dataclasses.replace(good, id='same', answers=(CHOSEN, CHOSEN)),
    dataclasses.replace(good, id='broken', image=b'no picture'),
    dataclasses.replace(good, id='long', answers=(CHOSEN * 9, REJECTED)),
    dataclasses.replace(good, id='last'),
  ]
  seen = []
  rows = encode_all(
    examples,
    TOKENIZER,
    PLAYROOM,
    image_tokens=4,
    buckets=[(24, 24, 2)],
    progress=lambda done, total: seen.append((done, total)),
  )
  assert len(rows) == 5 and rows.kept == 2
  assert [(r.index, r.id, r.reason) for r in rows.rejected] == [
    (1, 'same', 'equal answers'),
    (2, 'broken', 'undecodable picture'),
    (3, 'long', 'too long'),
  ]
  assert rows.reasons == {
    'equal answers': 1,
    'undecodable picture': 1,
    'too long': 1,
  }
  assert '(24, 24, 2)' in rows.rejected[2].detail
  assert seen == [(5, 5)]
  assert (lengths(rows)[1:4] == 0).all()
  np.testing.assert_array_equal(row(rows, 4).path(1), row(rows, 0).path(1))


def test_demonstrations_and_pairs_do_not_mix():
  with pytest.raises(ValueError, match=r'rows of \[1, 2\] answers'):
    pack([made(PAIR), made(CHAT)], ['a', 'b'])
