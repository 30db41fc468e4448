"""The headline says what the numbers say: better, worse, or perhaps chance."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_report import measured, outcome

from rlhfv_jax.report import findings


@given(st.floats(0.3, 0.9), st.floats(0.01, 0.2))
def test_the_headline_repeats_the_results(before, after):
  text = findings.headline(outcome(base=measured(before), ddpo=measured(after)))
  numbers = [float(x) for x in re.findall(r'([\d.]+) %', text)]
  want = [100 * before, 100 * after]
  np.testing.assert_allclose(numbers[:2], want, rtol=0, atol=0.0501)
  assert abs(numbers[2] - 100 * (1 - after / before)) <= 0.5
  assert 'fell from' in text and 'with ddpo' in text and 'n = 512' in text


@given(st.floats(0.1, 0.4), st.floats(0.0, 0.4))
def test_no_improvement_is_called_none(before, worse):
  after = before + worse
  text = findings.headline(outcome(base=measured(before), ddpo=measured(after)))
  assert text.startswith('ddpo did not improve hallucinating answers')
  assert f'{100 * before:.1f} % to {100 * after:.1f} %' in text
  assert 'fell' not in text


def test_overlapping_intervals_are_called_chance():
  text = findings.headline(outcome(base=measured(0.20), ddpo=measured(0.18)))
  assert 'it may be chance' in text and 'fell' not in text


def test_the_price_is_named():
  results = outcome(base=measured(0.6), ddpo=measured(0.1))
  results['models']['base']['coverage'] = measured(0.9)
  results['models']['ddpo']['coverage'] = measured(0.7)
  price = 'The price: things there that are mentioned went from 90.0 to 70.0 %.'
  assert price in findings.headline(results)
  results['models']['ddpo']['coverage'] = measured(0.89)
  assert 'Nothing else that was measured' in findings.headline(results)


def test_a_better_rival_is_named():
  models = dict(base=measured(0.6), ddpo=measured(0.2), sft=measured(0.1))
  assert 'sft does better: 10.0 %.' in findings.headline(outcome(**models))
  models['sft'] = measured(0.3)
  assert 'sft' not in findings.headline(outcome(**models))


def test_one_model_alone_and_one_without_an_interval():
  alone = findings.headline(outcome(base=measured(0.6)))
  assert alone == 'Hallucinating answers: 60.0 % with base.'
  bare = outcome(base={'value': 0.6}, ddpo={'value': 0.5})
  assert 'fell from 60.0 % to 50.0 %' in findings.headline(bare)
