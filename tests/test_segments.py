"""Word spans rebuild the answer they come from; tokens that meet one get 2."""

import difflib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv_jax.data.segments import gaps, replaced, roles_from_spans, spans

_WORDS = [
  'a',
  'the',
  'red',
  'blue',
  'cup',
  'über',
  '猫',
  '🐈‍⬛',
  ' ',
  '  ',
  '\n',
]
_ANSWER = st.one_of(
  st.lists(st.sampled_from([*_WORDS, '.', ',', 'two']), max_size=30).map(
    ''.join
  ),
  st.text(max_size=40),
)


def _text(answer, answer_spans):
  return [answer[start:end] for start, end in answer_spans]


def _replaced(answer, answer_spans, texts):
  for (start, end), text in reversed(
    list(zip(answer_spans, texts, strict=True))
  ):
    answer = answer[:start] + text + answer[end:]
  return answer


@given(_ANSWER)
def test_identical_answers_have_no_spans(answer):
  assert spans(answer, answer) == ([], [])


@given(_ANSWER, _ANSWER)
def test_writing_chosen_spans_over_rejected_ones_rebuilds_chosen(good, bad):
  new, old = spans(good, bad)
  assert _replaced(bad, old, _text(good, new)) == good


@given(_ANSWER, _ANSWER)
def test_spans_are_ordered_disjoint_and_say_something(good, bad):
  new, old = spans(good, bad)
  for answer, side in ((good, new), (bad, old)):
    ends = [end for span in side for end in span]
    assert ends == sorted(ends) and all(0 <= e <= len(answer) for e in ends)
  assert all(a < b or c < d for (a, b), (c, d) in zip(new, old, strict=True))


@given(_ANSWER, _ANSWER)
def test_hunks_are_kept_apart_by_more_than_white_space(good, bad):
  _, old = spans(good, bad)
  between = [bad[a[1] : b[0]] for a, b in zip(old, old[1:], strict=False)]
  assert all(text and not text.isspace() for text in between)


@pytest.mark.parametrize(
  'good, bad, new, old',
  [
    ('a red cup.', 'a blue cup.', ['red'], ['blue']),
    ('two red cups', 'three blue cups', ['two red'], ['three blue']),
    ('a cup', 'a red cup', [''], [' red']),
    ('a red cup', 'a cup', [' red'], ['']),
    ('a cup and a 猫.', 'a cup and a 🐈.', ['猫'], ['🐈']),
    ('a cup', '', ['a cup'], ['']),
  ],
)
def test_what_differs_is_words(good, bad, new, old):
  new_spans, old_spans = spans(good, bad)
  assert _text(good, new_spans) == new
  assert _text(bad, old_spans) == old


def test_frequent_words_still_match_in_a_long_answer():
  bad = 'there is a cup and a red ball and ' * 40 + 'a cat'
  good = bad.replace('cat', 'dog')
  assert spans(good, bad) == ([(1360 + 2, 1365)], [(1360 + 2, 1365)])


_OFFSET = st.tuples(st.integers(0, 30), st.integers(0, 6)).map(
  lambda s: (s[0], s[0] + s[1])
)


@given(st.lists(_OFFSET, max_size=8), st.lists(_OFFSET, max_size=20))
def test_a_token_is_corrected_exactly_where_its_characters_meet_a_span(
  drawn, offsets
):
  inside = {c for start, end in drawn for c in range(start, end)}
  want = [2 if inside & set(range(*token)) else 1 for token in offsets]
  roles = roles_from_spans(drawn, offsets)
  assert roles.dtype == np.int8 and roles.tolist() == want


def test_a_category_is_allowed_and_empty_spans_meet_nothing():
  offsets = [(0, 0), (0, 1), (1, 5), (5, 9), (0, 0)]
  assert roles_from_spans([(2, 5, 'object')], offsets).tolist() == [
    1,
    1,
    2,
    1,
    1,
  ]
  assert roles_from_spans([(3, 3)], offsets).tolist() == [1] * 5
  assert roles_from_spans([], offsets).tolist() == [1] * 5


def test_insertions_and_deletions_can_be_left_out():
  chosen = 'there is a red cup. there is a ball.'
  rejected = 'there is a cup. there is a box. there is a tree.'
  both = spans(chosen, rejected)
  assert _text(chosen, both[0]) == [' red', 'ball', '']
  assert _text(rejected, both[1]) == ['', 'box', ' there is a tree.']
  new, old = replaced(*both)
  assert _text(chosen, new) == ['ball'] and _text(rejected, old) == ['box']
  assert replaced([], []) == ([], [])


def test_an_inserted_word_takes_its_space_not_its_neighbour():
  """`a red cup` in tokens that carry the space before them."""
  (chosen, _), offsets = spans('a red cup', 'a cup'), [(0, 1), (1, 5), (5, 9)]
  assert roles_from_spans(chosen, offsets).tolist() == [1, 2, 1]


@given(
  st.lists(st.sampled_from('abcd '), max_size=40),
  st.lists(st.sampled_from('abcd '), max_size=40),
)
def test_words_match_as_in_difflib(old, new):
  slow = difflib.SequenceMatcher(None, old, new, autojunk=False)
  opcodes = slow.get_opcodes()
  assert gaps(old, new) == [tuple(o[1:]) for o in opcodes if o[0] != 'equal']
