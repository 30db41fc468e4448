"""What the annotator sees is what training weighs, whatever is typed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.annotate import agreement
from rlhfv_jax.annotate.guards import changed, guards
from rlhfv_jax.annotate.marks import Marks, Segment, arrange, pieces
from rlhfv_jax.data import segments

WORDS = ('a', 'red', 'car', ',', 'two', '.', 'é', '日本', '𝒳', '<b>', '\n')
WORD = st.sampled_from(WORDS)
TEXT = st.lists(WORD, max_size=14).map(' '.join)
ANY = st.text(st.characters(exclude_categories=['Cs']), max_size=40)


@settings(max_examples=150, deadline=None)
@given(TEXT | ANY, TEXT | ANY)
def test_the_segments_of_an_edit_are_the_diff_of_training(old, new):
  found = arrange(old, new, Marks())
  chosen, rejected = segments.spans(new, old)
  assert [s.chosen for s in found] == chosen
  assert [s.rejected for s in found] == rejected


@settings(max_examples=150, deadline=None)
@given(TEXT, TEXT, st.data())
def test_pieces_spell_both_texts_however_they_are_marked(old, new, data):
  """Split, joined and labelled, the segments still turn one text into the
  other, and stay apart."""
  marks = Marks()
  for _ in range(3):
    found = arrange(old, new, marks)
    if not found:
      break
    i = data.draw(st.integers(0, len(found) - 1))
    j = data.draw(st.integers(i, len(found) - 1))
    place = (found[i].rejected[0], found[j].rejected[1])
    one = found[i].rejected
    marks = data.draw(
      st.sampled_from(
        [
          marks._replace(joins=(*marks.joins, place)),
          marks._replace(splits=(*marks.splits, one)),
          marks._replace(labels=(*marks.labels, (*one, 'object'))),
        ]
      )
    )
  found = arrange(old, new, marks)
  for before, after in zip(found, found[1:], strict=False):
    assert before.chosen[1] <= after.chosen[0]
    assert before.rejected[1] <= after.rejected[0]
  shown = pieces(old, new, found)
  for side, text in (('new', new), ('old', old)):
    spelled = ''.join(
      same + (shown['segments'][i][side] if i < len(found) else '')
      for i, same in enumerate(shown['same'])
    )
    assert spelled == text


def test_a_split_parts_words_that_only_a_space_joined():
  old, new = 'a red car here', 'a blue bus here'
  (whole,) = arrange(old, new, Marks())
  assert whole == Segment((2, 10), (2, 9))
  parts = arrange(old, new, Marks(splits=((2, 9),)))
  assert [(old[slice(*s.rejected)], new[slice(*s.chosen)]) for s in parts] == [
    ('red', 'blue'),
    ('car', 'bus'),
  ]
  again = arrange(old, new, Marks(splits=((2, 9),), joins=((2, 9),)))
  assert again == [whole]


def test_a_label_stays_with_its_segment_while_others_appear():
  old = 'a red car and two dogs by a tree'
  marks = Marks(labels=((14, 17, 'number'),))
  for new in ('a red car and three dogs by a tree',
              'one blue car and three dogs by a tree',
              'one blue car and three cats by a big tree'):  # fmt: skip
    labels = {
      new[slice(*s.chosen)].split()[0]: s.label
      for s in arrange(old, new, marks)
    }
    assert labels['three'] == 'number'
    assert set(labels.values()) <= {'number', None}


@pytest.mark.parametrize(
  'marks',
  [[], {'labels': 'x'}, {'joins': [[3, 1]]}, {'splits': [[True, 2]]},
   {'labels': [[0, 1, '<script>']]}, {'joins': [[0, 1]] * 1001}],
)  # fmt: skip
def test_marks_that_nobody_can_have_made_are_refused(marks):
  with pytest.raises(ValueError):
    Marks.of(marks)


@pytest.mark.parametrize(
  'new, label, kinds',
  [
    ('one red car and two dogs.', None, ['equal']),
    ('  ', None, ['empty']),
    ('one red car, and two dogs', None, ['marks only', 'uncategorised']),
    ('one blue car and two dogs.', None, ['uncategorised']),
    ('one blue car and two dogs.', 'attribute', []),
    ('a quick fox jumps over it.', 'other', ['rewritten']),
  ],
)
def test_guards_say_what_is_the_matter(new, label, kinds):
  old = 'one red car and two dogs.'
  found = [s._replace(label=label) for s in arrange(old, new, Marks())]
  assert [g.kind for g in guards(old, new, found)] == kinds


def test_an_edit_is_not_left_behind_unawares():
  old = 'one red car.'
  assert not guards(old, old, [], clean=True)
  (told,) = guards(old, 'one blue car.', [], clean=True)
  assert told.kind == 'edited'


def test_changed_counts_words_of_the_longer_change():
  old, new = 'a b c d', 'a b c d e f g h'
  assert changed(old, new, arrange(old, new, Marks())) == 0.5
  assert changed(new, old, arrange(new, old, Marks())) == 0.5


def test_agreement_is_by_characters_and_kappa_is_cohens():
  one = agreement.touched([Segment((0, 0), (0, 4), 'object')])
  two = agreement.touched([Segment((0, 0), (2, 6), 'object'),
                           Segment((0, 0), (9, 9), 'number')])  # fmt: skip
  assert agreement.span_f1(one, two) == 2 * 2 / (4 + 5)
  assert agreement.span_f1({}, {}) == 1
  assert agreement.span_f1(one, {}) == 0
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 3, (2, 200))
  table = np.zeros((3, 3))
  np.add.at(table, (a, b), 1 / 200)
  chance = table.sum(0) @ table.sum(1)
  want = (np.trace(table) - chance) / (1 - chance)
  pairs = [(str(x), str(y)) for x, y in zip(a, b, strict=True)]
  assert agreement.kappa(pairs) == pytest.approx(want)
  assert agreement.kappa([]) is None
