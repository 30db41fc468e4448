"""What the playroom writes it can read, and it survives what it cannot."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.captions import (
  asked,
  noisy_caption,
  true_caption,
  wordy_caption,
)
from rlhfv_jax.playroom.claims import CATEGORIES, mentions, parse, read, unread
from rlhfv_jax.playroom.language import (
  NUMBER_WORDS,
  TOKEN,
  describe,
  plural,
  question,
  sentence,
  vocabulary,
)
from rlhfv_jax.playroom.questions import ask
from rlhfv_jax.playroom.scene import (
  COLOURS,
  HELD_OUT,
  KINDS,
  NUMBERS,
  PLACES,
  USUAL,
  Group,
  World,
  sample,
)
from rlhfv_jax.playroom.truth import judge, left_out, unsupported

WORLD = World()
groups = st.builds(
  Group, *map(st.sampled_from, (KINDS, COLOURS, NUMBERS, PLACES))
)
scenes = st.integers(0, 10**6).map(lambda i: sample(WORLD, 'test', index=i))
words = st.sampled_from([*vocabulary(), 'Cup', 'dog', '<unk>', '7', '\n', '..'])
fast = settings(max_examples=100, deadline=None)


def test_english():
  assert describe(Group('cup', 'red', 2, 'bottom left')) == (
    'at the bottom left there are two red cups.'
  )
  assert sentence('umbrella', 1) == 'there is an umbrella.'
  assert sentence('bench', 1, colour='orange') == 'there is an orange bench.'
  assert sentence('umbrella', 1, place='top left', colour='red') == (
    'at the top left there is a red umbrella.'
  )
  assert [plural(kind) for kind in ('box', 'bench', 'cup')] == (
    ['boxes', 'benches', 'cups']
  )
  assert question('yesno', 'umbrella') == 'is there an umbrella?'
  assert question('colour', 'box', 3) == 'what colour are the boxes?'
  assert question('place', 'box', 1) == 'where is the box?'
  assert question('number', 'box') == 'how many boxes are there?'


@fast
@given(
  st.lists(st.tuples(groups, st.booleans(), st.booleans()), max_size=5),
)
def test_every_sentence_reads_back_to_its_claims(told):
  texts, expected = [], []
  for group, with_colour, with_place in told:
    colour = group.colour if with_colour else None
    place = group.place if with_place else None
    texts.append(sentence(group.kind, group.number, colour=colour, place=place))
    claims = [('object', group.kind), ('attribute', colour)]
    claims += [('position', place), ('number', group.number)]
    expected += [(c, group.kind, value) for c, value in claims if value]
  text = ' '.join(texts)
  claims = parse(text)
  assert [(c.category, c.kind, c.value) for c in claims] == expected
  assert unread(text) == 0 and all(part.whole for part in read(text))
  assert [text[part.start : part.end] for part in read(text)] == texts
  for claim in claims:
    said = text[claim.start : claim.end]
    if claim.category == 'object':
      assert said in (claim.kind, plural(claim.kind))
    elif claim.category == 'number':
      assert said in ('a', 'an', NUMBER_WORDS[claim.value])
    else:
      assert said == claim.value


@fast
@given(st.one_of(st.text(max_size=40), st.lists(words).map(' '.join)))
def test_reading_never_fails_and_accounts_for_every_word(text):
  parts = read(text)
  covered = [text[part.start : part.end] for part in parts]
  assert ''.join(''.join(covered).split()) == ''.join(TOKEN.findall(text))
  for part in parts:
    tokens = [
      t for t in TOKEN.findall(text[part.start : part.end]) if t not in '.,?'
    ]
    assert 0 <= part.unread <= len(tokens)
  spans = sorted((claim.start, claim.end) for claim in parse(text))
  assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
  assert {claim.category for claim in parse(text)} <= set(CATEGORIES)


def test_broken_sentences_give_what_can_be_read():
  def values(text):
    return [(claim.category, claim.value) for claim in parse(text)]

  assert values('there are two red red cup at at the top lef') == (
    [('object', 'cup'), ('attribute', 'red'), ('number', 2)]
  )
  assert unread('there are two red red cup at at the top lef') == 8
  cut = 'at the top left there is a ball. there are two'
  assert values(cut) == [('object', 'ball'), ('position', 'top left'),
                         ('number', 1)]  # fmt: skip
  assert unread(cut) == 3
  assert values('top right cup ball.') == (
    [('object', 'cup'), ('position', 'top right'), ('object', 'ball')]
  )
  assert values('') == values('red . top left .') == []
  assert unread('red . top left .') == 3


@fast
@given(scenes)
def test_the_true_caption_is_true_and_whole(scene):
  text = true_caption(scene, np.random.default_rng(scene.index))
  assert not unsupported(scene, text) and not left_out(scene, text)
  assert len(judge(scene, text)) == 4 * len(scene.groups)


@fast
@given(scenes, st.integers(0, 99))
def test_captions_err_only_by_habit(scene, seed):
  text = noisy_caption(scene, np.random.default_rng(seed), WORLD)
  habits = USUAL[scene.room]
  assert not left_out(scene, text) and unread(text) == 0
  for claim in unsupported(scene, text):
    habit = habits[claim.kind]
    assert claim.value in vars(habit).values()
  for mention in mentions(text):
    if mention.kind not in scene.by_kind:
      habit = vars(habits[mention.kind]).values()
      assert all(claim.value in habit for claim in mention.claims)


@fast
@given(scenes)
def test_dials_of_captions_at_their_ends(scene):
  say = {f'say_{part}': 0.0 for part in ('colour', 'number', 'place')}
  rng = np.random.default_rng(0)
  honest = replace(WORLD, say_absent=(0.0,) * 3, **say)
  assert not unsupported(scene, noisy_caption(scene, rng, honest))
  blind = replace(WORLD, say_absent=(1.0,) * 3, **dict.fromkeys(say, 1.0))
  said = noisy_caption(scene, rng, blind)
  assert all(describe(h) in said for h in USUAL[scene.room].values())


def test_a_second_mention_is_a_wrong_object_and_counts_once():
  scene = sample(WORLD, 'test', index=0)
  group = scene.groups[0]
  other = replace(group, number=group.number % 3 + 1)
  text = f'{describe(group)} {describe(other)}'
  wrong = unsupported(scene, text)
  assert [(c.category, c.kind) for c in wrong] == [('object', group.kind)]
  assert wrong[0].start > len(describe(group))
  absent = next(k for k in KINDS if k not in scene.by_kind)
  text = sentence(absent, 2, colour='red', place='top left')
  assert [c.category for c, _ in judge(scene, text)] == ['object']


@fast
@given(scenes)
def test_closed_questions_are_answered_by_the_scene(scene):
  five = ask(scene, np.random.default_rng(scene.index), n=5)
  assert len(set(five)) == 5
  for one in five:
    kind = next(
      k for k in KINDS if {k, plural(k)} & set(TOKEN.findall(one.text))
    )
    group = scene.by_kind.get(kind)
    if one.form == 'yesno':
      assert one.answer == ('yes' if group else 'no')
    else:
      parts = {
        'colour': group.colour,
        'number': NUMBER_WORDS[group.number],
        'place': group.place,
      }
      assert one.answer == parts[one.form]
      assert one.text == question(one.form, kind, group.number)


def test_yes_and_no_are_balanced_and_nothing_held_out_is_asked():
  scenes = [sample(WORLD, 'train', index=i) for i in range(800)]
  rng = np.random.default_rng(0)
  every = [(s, q) for s in scenes for q in ask(s, rng)]
  closed = [(s, q) for s, q in every if q.form == 'yesno']
  assert 0.45 < len(closed) / len(every) < 0.55
  assert 0.42 < np.mean([q.answer == 'yes' for _, q in closed]) < 0.55
  no = [(s, q.text.split()[-1][:-1]) for s, q in closed if q.answer == 'no']
  assert not any(kind in HELD_OUT[s.room] for s, kind in no)
  assert np.mean([kind in USUAL[s.room] for s, kind in no]) > 0.3


def test_the_vocabulary_holds_every_word_of_every_row():
  known = set(vocabulary())
  rows = dataset.describe_rows(WORLD, 'unseen', 150)
  rows += dataset.question_rows(WORLD, 'train', 150)
  texts = [text for row in rows for _, text in row['turns']]
  texts += [row['answers'][0] for row in rows]
  used = {token for text in texts for token in TOKEN.findall(text)}
  assert used <= known
  assert len(known) == len(vocabulary()) < 80


@fast
@given(scenes)
def test_a_told_scene_is_all_there_is_before_the_first_question(scene):
  told = replace(WORLD, told=True)
  assert asked(scene, 'what can you see?', WORLD) == 'what can you see?'
  said = asked(scene, 'what can you see?', told)
  assert said == f'{true_caption(scene)} what can you see?'
  for rows in (dataset.describe_rows, dataset.question_rows):
    (plain,) = rows(WORLD, 'train', 1, start=scene.index)
    (row,) = rows(told, 'train', 1, start=scene.index)
    there = sample(WORLD, 'train', index=scene.index)
    first, *rest = row['turns']
    assert first == ('user', asked(there, plain['turns'][0][1], told))
    assert rest == plain['turns'][1:] and row['answers'] == plain['answers']
  for records in (dataset.describe_records, dataset.question_records):
    for record in records(told, 'dev', 1, start=scene.index):
      assert record['question'].startswith(
        true_caption(sample(WORLD, 'dev', index=scene.index))
      )


@fast
@given(scenes)
def test_a_wordy_caption_is_true_of_five_places(scene):
  text = wordy_caption(scene)
  assert not unsupported(scene, text) and not left_out(scene, text)
  assert text.count('.') == 5
  there = {group.place for group in scene.groups}
  for part in text.split('. '):
    (place,) = [place for place in PLACES if f'at the {place} ' in part]
    assert ('nothing' in part) == (place not in there)
  assert set(TOKEN.findall(text)) <= set(vocabulary())
