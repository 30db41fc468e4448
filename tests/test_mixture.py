"""Several sources as one: none lost, in the shares that were asked for."""

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv_jax import options
from rlhfv_jax.data import mixture, sources

SPEC = 'playroom:dev/describe/5 + playroom:test/questions/3'


def test_one_after_the_other():
  both = pickle.loads(pickle.dumps(sources.open(SPEC)))
  parts = [list(sources.open(spec)) for spec in SPEC.split(' + ')]
  assert list(both) == [*parts[0], *parts[1]]
  assert both.where(6) == 'playroom test, scene 1'
  with pytest.raises(IndexError, match='row 8 of 8'):
    both[8]


def test_in_shares_the_shorter_goes_round():
  a, b = SPEC.split(' + ')
  ids = Counter(e.id for e in sources.open(f'1*{a} + 1*{b}'))
  assert len(ids) == 8
  assert [n for id, n in ids.items() if id.startswith('dev')] == [1] * 5
  assert sorted(n for id, n in ids.items() if id.startswith('test')) == [
    1,
    2,
    2,
  ]


@given(
  st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=4
  )
)
def test_shares_are_exact_and_no_row_is_rarer_by_more_than_one(parts):
  lengths, shares = zip(*parts, strict=True)
  rows = [range(1000 * k, 1000 * k + n) for k, n in enumerate(lengths)]
  mixed = mixture.mix(rows, shares)
  found = Counter(mixed[i] for i in range(len(mixed)))
  counts = [sum(found[row] for row in source) for source in rows]
  rounds = {n / share for n, share in zip(counts, shares, strict=True)}
  assert len(rounds) == 1
  for source in rows:
    times = [found[row] for row in source]
    assert max(times) - min(times) <= 1
  # Whole rounds: of the longest, what does not fill one is left for nobody.
  assert max(rounds) == max(
    1, *(n // share for n, share in zip(lengths, shares, strict=True))
  )


def test_the_parent_of_rlhfv_has_one_of_each_in_turn():
  """VQAv2 and UniMM-Chat, 50 : 50, as its released config names them."""
  source = options.load('configs/sft.py:rlhfv_13b').data.source
  (one, vqa), (other, chats) = mixture.parse(source)
  assert one == other == 1
  kinds = [sources.split(spec)[0] for spec in (vqa, chats)]
  assert kinds == ['vqav2', 'unimm']
  assert sources.asked(vqa)[1] == {'prompt': 'rlhfv'}


def test_a_picture_of_another_kind_of_spec_is_told():
  with pytest.raises(ValueError, match=r'say KIND:PATH \+ KIND:PATH'):
    sources.open('0*playroom:dev + playroom:test')
