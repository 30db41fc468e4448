"""Corrections mend what is wrong, and leave the rest to the character."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlhfv_jax.playroom.annotator import correct, facts, rank
from rlhfv_jax.playroom.captions import noisy_caption, true_caption
from rlhfv_jax.playroom.claims import read
from rlhfv_jax.playroom.edits import Edit, apply
from rlhfv_jax.playroom.language import vocabulary
from rlhfv_jax.playroom.scene import Group, Scene, World, sample
from rlhfv_jax.playroom.truth import judge, left_out, unsupported

WORLD = World()
scenes = st.integers(0, 10**6).map(lambda i: sample(WORLD, 'test', index=i))
fast = settings(max_examples=150, deadline=None)


@st.composite
def answers(draw):
  """Captions of any scene, as a small model may garble them."""
  other = draw(scenes)
  rng = np.random.default_rng(draw(st.integers(0, 9)))
  words = noisy_caption(other, rng, WORLD).split(' ')
  for _ in range(draw(st.integers(0, 4))):
    at = draw(st.integers(0, len(words)))
    what = draw(st.sampled_from(['drop', 'repeat', 'cut', 'add']))
    if what == 'cut':
      words = words[: at + 1]
    else:
      word = draw(st.sampled_from([*vocabulary(), 'Red', '\n', 'cups.']))
      middle = {'drop': [], 'repeat': words[at : at + 1] * 2, 'add': [word]}
      words = words[:at] + middle[what] + words[at + (what != 'add') :]
  return draw(st.sampled_from([' ', ' ', '  '])).join(words)


SCENE = Scene(
  'kitchen',
  (
    Group('clock', 'orange', 1, 'top centre'),
    Group('cup', 'red', 2, 'bottom left'),
    Group('box', 'blue', 1, 'bottom right'),
  ),
)
CLOCK = 'at the top centre there is an orange clock.'
CUPS = 'at the bottom left there are two red cups.'
BOX = 'at the bottom right there is a blue box.'


def changes(text, scene=SCENE):
  """Old words, new words and category of each span."""
  done = correct(scene, text)
  spans = zip(done.rejected_spans, done.chosen_spans, strict=True)
  return done.text, [
    (text[a:b], done.text[c:d], category)
    for (a, b, category), (c, d, again) in spans
    if category == again
  ]


@pytest.mark.parametrize(
  'text, expected, spans',
  [
    (
      f'{CUPS} at the bottom right there is a green box.',
      f'{CUPS} {BOX}',
      [('green', 'blue', 'attribute')],
    ),
    (
      'at the top centre there is a white clock.',
      CLOCK,
      [('a white', 'an orange', 'attribute')],
    ),
    (
      'at the top right there are three red cups.',
      CUPS,
      [('top right', 'bottom left', 'position'), ('three', 'two', 'number')],
    ),
    (
      'at the bottom left there is an orange cup.',
      CUPS,
      [
        ('is an', 'are two', 'number'),
        ('orange', 'red', 'attribute'),
        ('cup', 'cups', 'number'),
      ],
    ),
    (
      'at the top centre there are three white clocks.',
      CLOCK,
      [
        ('are three', 'is an', 'number'),
        ('white', 'orange', 'attribute'),
        ('clocks', 'clock', 'number'),
      ],
    ),
    (
      f'{CUPS} at the bottom right there is a blue chair. {CLOCK}',
      f'{CUPS} {BOX} {CLOCK}',
      [('chair', 'box', 'object')],
    ),
    (
      f'at the top left there is a blue chair. {CUPS} {BOX}',
      f'{CLOCK} {CUPS} {BOX}',
      [('left there is a blue chair', 'centre there is an orange clock',
        'object')],
    ),
    (
      f'{CUPS} there is a bed. {BOX} {CLOCK}',
      f'{CUPS} {BOX} {CLOCK}',
      [(' there is a bed.', '', 'object')],
    ),
    (
      f'there is a bed. there is a kite. {CUPS} {BOX} {CLOCK} {CUPS}',
      f'{CUPS} {BOX} {CLOCK}',
      [
        ('there is a bed. ', '', 'object'),
        ('there is a kite. ', '', 'object'),
        (f' {CUPS}', '', 'object'),
      ],
    ),
  ],
)  # fmt: skip
def test_examples(text, expected, spans):
  assert changes(text) == (expected, spans)


def test_what_is_right_or_says_nothing_needs_no_correction():
  for text in (CUPS, f'{BOX} {CLOCK}', '', 'yes', 'there is a', 'red red.'):
    assert correct(SCENE, text) is None


def test_broken_sentences_are_told_anew_only_when_wrong():
  broken = 'at the bottom right there is is a blue box.'
  assert correct(SCENE, broken) is None
  text, spans = changes(f'at the bottom right there is is a red box. {CUPS}')
  assert text == f'{BOX} {CUPS}'
  assert [category for *_, category in spans] == ['attribute']
  text, _ = changes('there is a red box car')
  assert text == BOX


@fast
@given(scenes, answers())
@example(SCENE, f'there is a bed. there is a kite. {CUPS}{BOX}{CLOCK}{CUPS}')
def test_a_correction_is_true_tells_no_less_and_is_what_its_spans_say(
  scene, text
):
  done = correct(scene, text)
  if done is None:
    assert not unsupported(scene, text)
    return
  assert unsupported(scene, text) and not unsupported(scene, done.text)
  assert correct(scene, done.text) is None
  assert done.text.strip()
  before, after = left_out(scene, text), left_out(scene, done.text)
  assert set(after) <= set(before)
  told = {claim.kind for claim, true in judge(scene, text) if true}
  false = [c for c in unsupported(scene, text) if c.kind not in told]
  if before and false and all(part.whole for part in read(text)):
    assert len(after) < len(before)

  old, new = list(done.rejected_spans), list(done.chosen_spans)
  kept_old, kept_new, at, to = [], [], 0, 0
  for (a, b, one), (c, d, other) in zip(old, new, strict=True):
    assert at <= a <= b and to <= c <= d and one == other
    kept_old.append(text[at:a])
    kept_new.append(done.text[to:c])
    assert text[a:b] != done.text[c:d]
    at, to = b, d
  assert kept_old + [text[at:]] == kept_new + [done.text[to:]]


@fast
@given(scenes, scenes, st.integers(0, 99))
def test_in_whole_sentences_spans_are_the_wrong_claims(scene, other, seed):
  text = noisy_caption(other, np.random.default_rng(seed), WORLD)
  done = correct(scene, text)
  wrong = unsupported(scene, text)
  spans = done.rejected_spans if done else ()
  for claim in wrong:
    assert any(
      a <= claim.start < claim.end <= b and category == claim.category
      for a, b, category in spans
    )
  for category in ('object', 'attribute', 'position'):
    count = sum(claim.category == category for claim in wrong)
    assert sum(span[2] == category for span in spans) == count
  # Two spans where a number changes the noun too, never three.
  count = sum(claim.category == 'number' for claim in wrong)
  assert count <= sum(span[2] == 'number' for span in spans) <= 2 * count


@fast
@given(scenes, answers(), answers())
def test_ranking_is_fair_and_prefers_corrections(scene, a, b):
  order = rank(scene, a, b)
  assert order == {0: 1, 1: 0, None: None}[rank(scene, b, a)]
  assert rank(scene, a, a) is None
  done = correct(scene, a)
  if done:
    assert rank(scene, a, done.text) == 1
  wrong = [len(unsupported(scene, text)) for text in (a, b)]
  if wrong[0] != wrong[1]:
    assert order == int(wrong[1] < wrong[0])


def test_ranking_prefers_the_answer_that_tells_more():
  assert rank(SCENE, CUPS, f'{CUPS} {BOX}') == 1
  assert rank(SCENE, f'{CUPS} {BOX}', CUPS) == 0
  assert rank(SCENE, f'{CUPS} {BOX}', f'{BOX} {CUPS}') is None
  assert rank(SCENE, '', 'there is a bed.') == 0


@fast
@given(scenes, st.integers(0, 99))
def test_facts_are_true_but_partial(scene, seed):
  told = facts(scene, np.random.default_rng(seed))
  text = ' '.join(told)
  assert [len(read(sentence)) for sentence in told] == [1] * len(told)
  assert text and not unsupported(scene, text)
  claims = len(judge(scene, text))
  assert 2 <= claims <= 0.6 * 4 * len(scene.groups)
  assert all(part.whole for part in read(text))
  full = len(judge(scene, true_caption(scene)))
  assert claims < full


def test_overlapping_edits_are_refused():
  edits = [Edit(0, 5, 'x', 'object'), Edit(3, 8, 'y', 'object')]
  with pytest.raises(ValueError, match='another ends'):
    apply('0123456789', edits)
