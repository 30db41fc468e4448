"""What the doctor counts of a data set is what is there."""

import os
import re

import numpy as np
import pytest
from plants import CLEAN, TOKENS, pairs

from rlhfv_jax import doctor
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.doctor import exam


@pytest.fixture(scope='module')
def clean():
  return pairs(120)


def test_words_and_the_playrooms_tokens_tell_the_same(clean):
  """A token is a word there, and an answer has one more, its stop."""
  packed = encode_all(clean, **TOKENS | {'buckets': None})
  for i, pair in enumerate(clean):
    words = exam.in_words(pair, pair.spans)
    _, *answers = packed.sizes[i].tolist()
    assert [n + 1 for n in words.answers] == answers
    assert words.head == packed.heads[i]
    n = packed.roles[packed.starts[i, 1] :][
      : sum(answers) + 2 * packed.sizes[i, 0]
    ]
    assert sum(words.corrected) == (n == 2).sum()


def test_the_summary_counts_the_usable_rows(clean, tmp_path):
  rows = clean[:CLEAN]
  s = doctor.check(rows, out=tmp_path / 'x.html', **TOKENS).summary
  spans = [pair.spans[0] for pair in rows]
  assert s.counts['category'].total() == sum(map(len, spans))
  assert s.segments.tolist() == [len(its) for its in spans]
  assert s.counts['model'] == {'base': CLEAN}
  words = [[re.findall(r'\w+|[^\w\s]', text) for text in pair.answers]
           for pair in rows]  # fmt: skip
  heads = [len(os.path.commonprefix(both)) for both in words]
  shorter = np.minimum(s.chosen, s.rejected)
  np.testing.assert_array_equal(np.round(s.shared * shorter), heads)
