"""Words, singulars and lemmas against what the originals' libraries make."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.benchmarks import lexicon
from rlhfv_jax.benchmarks.lemmas import plurals, table, wordnet_table
from rlhfv_jax.benchmarks.lexicon import mentions
from rlhfv_jax.benchmarks.singular import singular
from rlhfv_jax.benchmarks.words import cut

GOLDEN = Path(__file__).parent / 'golden'
CHAIR = json.loads((GOLDEN / 'chair_original.json').read_text())['rows']
OBJHAL = json.loads((GOLDEN / 'objhal_lexical.json').read_text())['rows']

OWN = lexicon.own()


def words(text):
  return [word.text for word in cut(text)]


@pytest.mark.parametrize('row', CHAIR, ids=lambda row: str(row['image_id']))
def test_words_and_singulars_as_nltk_and_pattern_make_them(row):
  tokens = row['expected']['tokens']
  # The one abbreviation: it is no noun, so it may lose its full stop.
  assert words(row['caption'].replace('mr.', 'mr')) == [
    'mr' if token == 'mr.' else token for token in tokens
  ]
  letters = [t for t in tokens if t.isalpha()]
  made = dict(zip(tokens, row['expected']['singular'], strict=True))
  assert [singular(t) for t in letters] == [made[t] for t in letters]


@pytest.mark.parametrize(
  'text, want',
  [
    ("the man's dog's toy.", ['the', 'man', "'s", 'dog', "'s", 'toy', '.']),
    ("the dogs' toys", ['the', 'dogs', "'", 'toys']),
    ('a dog.A cat', ['a', 'dog.a', 'cat']),
    ('a dog/cat, 1,000 birds', ['a', 'dog/cat', ',', '1,000', 'birds']),
    ('**dog** (cat).', ['*', '*', 'dog', '*', '*', '(', 'cat', ')', '.']),
    ('dog... cat--bird', ['dog', '...', 'cat', '--', 'bird']),
    ('“dog” said he.”', ['“', 'dog', '”', 'said', 'he', '.', '”']),
    ('one dog.)', ['one', 'dog', '.', ')']),
    ('a well-lit dog!?', ['a', 'well-lit', 'dog', '!', '?']),
  ],
)
def test_marks_that_stand_by_words(text, want):
  assert words(text) == want


@settings(deadline=None)
@given(st.text(max_size=80))
def test_words_cover_the_text_in_order(text):
  end = 0
  for word in cut(text):
    assert not text[end : word.start].strip()
    assert word.start < word.end
    end = word.end
  assert not text[end:].strip()


@pytest.mark.parametrize(
  'word, want',
  [
    # Slips that the original's numbers depend on.
    ('bus', 'bu'), ('buses', 'bus'), ('glass', 'glas'), ('canoes', 'cano'),
    ('ties', 'ty'), ('doggies', 'doggies'), ('tennis', 'tenni'),
    ('police', 'polouse'), ('drives', 'drife'),
    # And what it gets right.
    ('women', 'woman'), ('knives', 'knife'), ('people', 'person'),
    ('geese', 'goose'), ('puppies', 'puppy'), ('scissors', 'scissors'),
    ('vases', 'vase'), ('calves', 'calf'), ('sandwiches', 'sandwich'),
  ],
)  # fmt: skip
def test_singulars(word, want):
  assert singular(word) == want


def test_lemmas_as_wordnet_makes_them():
  pairs = {
    token: lemma
    for row in OBJHAL
    for token, lemma in zip(
      row['expected']['tokens'], row['expected']['lemmas'], strict=True
    )
  }
  nouns = {word for row in OBJHAL for word, _ in
           row['expected']['mscoco_generated_words']}  # fmt: skip
  parts = {part for noun in nouns for part in noun.split()}
  forms = wordnet_table(parts)
  for token, lemma in pairs.items():
    if lemma in parts or token in parts:
      assert forms.get(token, token) == lemma


def test_where_wordnet_and_english_part():
  nouns = ['man', 'vase', 'bus', 'smartphone', 'child', 'policeman']
  theirs, ours = wordnet_table(nouns), table(nouns)
  assert 'men' not in theirs and ours['men'] == 'man'
  assert 'vases' not in theirs and ours['vases'] == 'vase'
  assert 'smartphones' not in theirs and ours['smartphones'] == 'smartphone'
  for forms in (theirs, ours):
    assert forms['children'] == 'child' and forms['buses'] == 'bus'
    assert forms['policemen'] == 'policeman'


def test_every_class_is_found_by_its_name_and_its_plural():
  assert len(OWN.objects) == 80
  for name in OWN.objects:
    *rest, last = name.split()
    for form in {last} | plurals(last):
      text = f'There: {" ".join([*rest, form])}.'
      assert [m.object for m in mentions(text, OWN)] == [name], text


@pytest.mark.parametrize(
  'text, want',
  [
    ('Men ride baby elephants.', ['person', 'elephant']),
    ('A pair of scissors lies there.', ['scissors']),
    ('Two glasses of wine, a stove top oven.', ['wine glass', 'oven']),
    ('an orange cat and an orange', ['cat', 'orange']),
    ('The bus stop by the train track.', []),
    ('a computer mouse', ['mouse']),
    ('hot dogs for the dog', ['hot dog', 'dog']),
    ("a catcher's mitt", ['baseball glove']),
    ('toilet paper in the toilet', ['toilet']),
  ],
)
def test_phrases_win_over_their_words(text, want):
  assert [m.object for m in mentions(text, OWN)] == want


@settings(deadline=None)
@given(st.text(alphabet='aAdogs mtenİßſ.,\'"-\n', max_size=60))
def test_a_mention_stands_where_it_says(text):
  text = f'{text} Two Dogs.'
  found = mentions(text, OWN)
  for mention in found:
    shown = text[mention.start : mention.end]
    assert shown == shown.strip() and shown
  assert text[found[-1].start : found[-1].end] == 'Dogs'


def test_a_bad_lexicon_is_named(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text('cat: kitten\ndog: kitten\n')
  with pytest.raises(ValueError, match="mine.txt: 'kitten' is a cat and a dog"):
    lexicon.own(path)
  path.write_text('cat: kitten\nno colon here\n')
  with pytest.raises(ValueError, match="line 2: 'no colon here'"):
    lexicon.own(path)
  path.write_text('cat: kitten\n')
  with pytest.raises(ValueError, match='not a list of synonyms'):
    lexicon.synonyms(path)
