"""Examples become rows, rows become batches, and no token is lost."""

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_chat import KINDS_AND_TEMPLATES, TOKENIZER, TOKENIZERS, WORDS

from rlhfv_jax import batch as device_batch
from rlhfv_jax.data import chat, muffin_diff, plan
from rlhfv_jax.data.encode import encode, encode_all, within
from rlhfv_jax.data.rows import (
  Example,
  Row,
  RowError,
  assemble,
  from_dict,
  gather,
  lengths,
  pack,
  path_key,
  prompts,
  row,
  to_dict,
)

PLAYROOM = chat.template('playroom')
ASK = (('user', 'what can you see?'),)
CHOSEN = 'there is a red cup at the top left. there are two chairs.'
REJECTED = 'there is a blue cup at the top left. there are three chairs.'
PAIR = Example('pair', b'png', ASK, (CHOSEN, REJECTED))
CHAT = Example(
  'chat',
  b'png',
  (
    ('user', 'is there a cup?'),
    ('assistant', 'yes'),
    ('user', 'what colour is the cup?'),
  ),
  ('red',),
)


def made(example, *, tokenizer=TOKENIZER, template=PLAYROOM, **options):
  options = {'image_tokens': 4} | options
  return encode(example, tokenizer, template, **options)


def words(one: Row, answer: int, role: int) -> str:
  ids = one.path(answer)[one.roles[answer] == role]
  return ' '.join(TOKENIZER.convert_ids_to_tokens(ids.tolist()))


# ---- roles


def test_a_pair_is_scored_on_its_answers_with_their_stop():
  one = made(PAIR)
  assert words(one, 0, 2) == 'red two'
  assert words(one, 1, 2) == 'blue three'
  for answer in (0, 1):
    roles = one.roles[answer]
    assert (roles[: len(one.prompt)] == 0).all()
    assert (roles[len(one.prompt) :] > 0).all()
    assert one.answers[answer][-1] == TOKENIZER.eos_token_id
    assert roles[-1] == 1


def test_the_head_is_what_the_answers_share():
  one = made(PAIR)
  shared = one.answers[0][: one.head]
  np.testing.assert_array_equal(shared, one.answers[1][: one.head])
  assert one.answers[0][one.head] != one.answers[1][one.head]
  assert chat.decode(TOKENIZER, shared) == 'there is a'


def test_given_spans_are_believed():
  at = CHOSEN.index('cup')
  spans = (((at, at + 3, 'object'),), ())
  one = made(dataclasses.replace(PAIR, spans=spans))
  assert words(one, 0, 2) == 'cup'
  assert words(one, 1, 2) == ''


def test_all_answers_of_a_lone_conversation_are_scored():
  one = made(CHAT)
  assert words(one, 0, 1) == 'yes <end> red <end>'
  assert one.head == len(one.answers[0])


def test_earlier_answers_of_a_pair_are_not_scored():
  pair = dataclasses.replace(CHAT, answers=('red', 'blue'))
  assert words(made(pair), 0, 1) == '<end>'
  assert words(made(pair), 0, 2) == 'red'


def test_tags_are_scored_where_the_recipe_says():
  one = made(CHAT, score_template=True)
  assert words(one, 0, 1) == ('assistant : yes <end> assistant : red <end>')


def test_muffins_roles_are_its_diff_of_whole_rows():
  pair = dataclasses.replace(
    PAIR, answers=(CHOSEN, REJECTED.replace('a blue', 'one dark blue'))
  )
  tokenizer = chat.word_tokenizer([*WORDS, 'dark'])
  one = made(pair, tokenizer=tokenizer, diff='muffin', score_template=True)
  plain = made(pair, tokenizer=tokenizer, score_template=True)
  chosen, rejected = one.path(0)[1:].tolist(), one.path(1)[1:].tolist()
  expected = muffin_diff.roles(rejected, chosen)[::-1]
  for c in (0, 1):
    roles = one.roles[c]
    np.testing.assert_array_equal(roles[1:], expected[c] * (roles[1:] > 0))
    np.testing.assert_array_equal(roles > 0, plain.roles[c] > 0)
  assert (one.roles[0] == 2).sum() == 3  # a red, two
  assert (one.roles[1] == 2).sum() == 4  # one dark blue, three


@pytest.mark.parametrize('kind, name', KINDS_AND_TEMPLATES)
def test_corrected_tokens_hold_what_was_corrected_in_every_template(kind, name):
  tokenizer, template = TOKENIZERS[kind], chat.template(name)
  one = made(PAIR, tokenizer=tokenizer, template=template)
  for answer, expected in ((0, ['red', 'two']), (1, ['blue', 'three'])):
    path, roles = one.path(answer), one.roles[answer]
    edges = np.flatnonzero(np.diff(np.r_[0, roles == 2, 0]))
    found = [
      tokenizer.decode(path[a:b].tolist()).strip()
      for a, b in edges.reshape(-1, 2)
    ]
    assert found == expected
    scored = tokenizer.decode(path[roles > 0].tolist()).strip()
    scored = scored.removeprefix('Assistant: ')  # where the model writes it
    assert scored.startswith(PAIR.answers[answer])


def test_what_follows_an_answer_is_not_scored():
  plain, asked = made(PAIR), made(PAIR, suffix=' is there a cup?')
  for answer in (0, 1):
    n = len(plain.path(answer))
    np.testing.assert_array_equal(asked.path(answer)[:n], plain.path(answer))
    np.testing.assert_array_equal(asked.roles[answer][:n], plain.roles[answer])
    assert (asked.roles[answer][n:] == 0).all()
    assert len(asked.path(answer)) > n


def test_a_question_is_a_row_without_scores():
  one = made(dataclasses.replace(PAIR, answers=()))
  np.testing.assert_array_equal(one.prompt, made(PAIR).prompt)
  assert len(one.answers[0]) == one.head == 0
  for asked in (PAIR, CHAT):
    asked = dataclasses.replace(asked, answers=())
    assert not made(asked, score_template=True).roles[0].any()


def test_the_pictures_mark_in_a_turn_changes_nothing():
  marked = dataclasses.replace(PAIR, turns=(('user', '<image>\n' + ASK[0][1]),))
  np.testing.assert_array_equal(made(marked).prompt, made(PAIR).prompt)


# ---- what cannot be used


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


# ---- assembling


def random_rows(seed: int, answers: int, n: int = 7):
  """Rows of random lengths, as pairs and lone answers have them."""
  rng = np.random.default_rng(seed)

  def one():
    prompt = rng.integers(1, 99, rng.integers(1, 9)).astype(np.int32)
    head = rng.integers(1, 99, rng.integers(0, 9)).astype(np.int32)
    rests = [
      np.r_[100 + c, rng.integers(1, 99, rng.integers(0, 6))].astype(np.int32)
      for c in range(answers)
    ]
    paths = tuple(np.r_[head, rest].astype(np.int32) for rest in rests)
    shared = rng.integers(0, 3, len(prompt) + len(head))
    roles = tuple(
      np.r_[shared, rng.integers(0, 3, len(rest))].astype(np.int8)
      for rest in rests
    )
    return Row(
      prompt, paths, roles, len(head) if answers > 1 else len(paths[0])
    )

  made = [one() for _ in range(n)]
  return made, pack(made, [str(i) for i in range(n)])


@st.composite
def cases(draw):
  answers = draw(st.sampled_from([1, 2, 3]))
  made, rows = random_rows(draw(st.integers(0, 10**6)), answers)
  sizes = lengths(rows)
  if answers == 1:
    bucket = (int(sizes[:, 0].max()) + draw(st.integers(0, 3)), 0, 1)
  else:
    # From the shortest trunk that holds the prompts: the fork comes early.
    least = int(rows.sizes[:, 0].max())
    trunk = draw(st.integers(least, int(sizes[:, 0].max()) + 2))
    rest = np.maximum(sizes[:, 0] - trunk, 0) + sizes[:, 1:].max(1)
    bucket = (trunk, int(rest.max()) + draw(st.integers(0, 3)), answers)
  indices = draw(
    st.lists(st.integers(-1, len(made) - 1), min_size=1, max_size=9)
  )
  return made, rows, bucket, np.array(indices)


def path_slots(batch, bucket, b, answer):
  """The slots of a path, found as the model does: by each one's parent."""
  sizes = batch['lengths'][b : b + 1]
  shape = device_batch.Bucket(*bucket)
  parent, position, _ = map(np.asarray, device_batch.layout(sizes, shape))
  if sizes[0, 1 + answer]:
    slot = shape.trunk + answer * shape.branch + sizes[0, 1 + answer] - 1
  else:
    slot = sizes[0, 0] - 1
  slots = []
  while slot >= 0:
    slots.insert(0, int(slot))
    slot = parent[0, slot]
    assert slot < slots[0], 'a parent comes earlier'
  np.testing.assert_array_equal(position[0, slots], np.arange(len(slots)))
  return slots


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_batch_holds_every_path_whole(case):
  made, rows, bucket, indices = case
  batch = assemble(rows, indices, bucket, read=True)
  for b, index in enumerate(indices):
    if index < 0:
      continue
    for c in range(bucket[2]):
      slots = path_slots(batch, bucket, b, c)
      np.testing.assert_array_equal(
        batch['tokens'][b, slots], made[index].path(c)
      )
      np.testing.assert_array_equal(
        batch['roles'][b, c, slots], made[index].roles[c]
      )
      assert batch['read'][b, c] == slots[-1]
      # Roles stand on the path and nowhere else.
      assert (batch['roles'][b, c] > 0).sum() == (
        made[index].roles[c] > 0
      ).sum()


def test_types_are_as_the_batch_says():
  _, rows = random_rows(0, 2)
  bucket = (20, 20, 2)
  extras = {
    'ref_logps': lambda i: [
      np.zeros((r > 0).sum(), np.float32) for r in row(rows, i).roles
    ]
  }
  batch = assemble(rows, np.array([0, -1, 2]), bucket, extras=extras)
  assert {k: (v.dtype.name, v.shape) for k, v in batch.items()} == {
    'tokens': ('int32', (3, 60)),
    'lengths': ('int32', (3, 3)),
    'roles': ('int8', (3, 2, 60)),
    'index': ('int32', (3,)),
    'ref_logps': ('float32', (3, 60)),
  }


def test_an_empty_row_is_empty():
  _, rows = random_rows(0, 2)
  batch = assemble(rows, np.array([-1, 3]), (20, 20, 2))
  for name in ('tokens', 'lengths', 'roles'):
    assert not batch[name][0].any() and batch[name][1].any()
  assert batch['index'].tolist() == [-1, 3]


def test_a_lone_answer_lives_in_the_trunk():
  rows = pack([made(CHAT)], ['a'])
  batch = assemble(rows, np.array([0]), (64, 0, 1))
  assert batch['lengths'].tolist() == [[len(made(CHAT).path(0)), 0]]


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_cache_comes_back_from_any_bucket(case):
  made, rows, bucket, indices = case
  # A value for a token is a function of its path so far, as log-probs are.
  cache = [
    [
      (1 + np.cumsum(one.path(c))[one.roles[c] > 0]).astype(np.float32)
      for c in range(bucket[2])
    ]
    for one in made
  ]
  batch = assemble(rows, indices, bucket, extras={'x': cache.__getitem__})
  scored = (batch['roles'] > 0).any(axis=1)
  assert (batch['x'][~scored] == 0).all() and (batch['x'][scored] != 0).all()
  found = gather(batch['x'], rows, indices, bucket)
  kept = indices[indices >= 0]
  assert len(found) == len(kept)
  for index, answers in zip(kept, found, strict=True):
    for mine, theirs in zip(cache[index], answers, strict=True):
      np.testing.assert_array_equal(mine, theirs)


def test_values_of_shared_tokens_are_those_of_the_first_answer():
  made, rows = random_rows(3, 2)
  one = made[0]
  extras = {
    'x': lambda i: [
      np.full((r > 0).sum(), 1.0 + c) for c, r in enumerate(made[i].roles)
    ]
  }
  bucket = (len(one.prompt) + one.head, 20, 2)
  batch = assemble(rows, np.array([0]), bucket, extras=extras)
  trunk = batch['x'][0, : bucket[0]]
  assert set(trunk[batch['roles'][0, 0, : bucket[0]] > 0]) <= {1.0}
  assert set(batch['x'][0, bucket[0] + 20 :]) <= {0.0, 2.0}


def test_a_bucket_too_small_is_an_error_with_its_numbers():
  rows = pack([made(PAIR)], ['a'])
  prompt = int(prompts(rows)[0])
  with pytest.raises(
    ValueError, match=rf'prompt of {prompt} .*\({prompt - 1}, 90'
  ):
    assemble(rows, np.array([0]), (prompt - 1, 90, 2))
  with pytest.raises(ValueError, match=r'after the fork .*\(90, 3, 2\)'):
    assemble(rows, np.array([0]), (90, 3, 2))
  with pytest.raises(
    ValueError, match='for 1 answers a row, these rows have 2'
  ):
    assemble(rows, np.array([0]), (90, 0, 1))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_what_the_plan_says_fits_fits(case):
  """`plan.fits` and `assemble` agree, row by row, on small buckets too."""
  _, rows, (trunk, branch, answers), _ = case
  for bucket in {
    (trunk, branch, answers),
    (trunk - 2, max(branch - 2, 0), answers),
  }:
    held = plan.fits(lengths(rows), bucket, prompts=prompts(rows))
    for index, fits in enumerate(held):
      if fits:
        assemble(rows, np.array([index]), bucket)
      else:
        with pytest.raises(ValueError, match='does not fit'):
          assemble(rows, np.array([index]), bucket)
    kept = within(rows, [bucket])
    assert kept.kept == held.sum() and len(kept.rejected) == (~held).sum()


# ---- names


def test_a_paths_name_is_its_tokens_and_its_picture():
  exact, muffin = made(PAIR), made(PAIR, diff='muffin')
  name = path_key(exact, 0, 'picture')
  assert name == path_key(muffin, 0, 'picture')
  other = dataclasses.replace(PAIR, answers=(CHOSEN, 'there is a lamp.'))
  assert name == path_key(made(other), 0, 'picture')
  different = {
    name,
    path_key(exact, 1, 'picture'),
    path_key(exact, 0, 'another'),
    path_key(exact, 0, None),
    path_key(made(PAIR, score_template=True), 0, 'picture'),
    path_key(made(PAIR, image_tokens=5), 0, 'picture'),
  }
  assert len(different) == 6


def test_an_example_survives_json():
  spans = (((0, 5, 'object'),), ())
  for example in (PAIR, CHAT, dataclasses.replace(PAIR, spans=spans)):
    plain = to_dict(dataclasses.replace(example, image=None))
    again = from_dict(json.loads(json.dumps(plain)))
    assert dataclasses.replace(again, image=example.image) == example
