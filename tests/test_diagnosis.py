"""Sick runs are told what ails them, and healthy ones nothing: real runs."""

import math

import pytest

from launch import curves
from rlhfv_jax import files
from rlhfv_jax.report.diagnosis import diagnose

SAYS = {
  'beta': ('beta is too high', 'config.loss.beta'),
  'gamma': ('gamma is too high', 'config.loss.gamma'),
  'reference': ('The reference is another model', 'reference/'),
  'equal': ('Nothing tells the answers apart', 'data check'),
}


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
  return curves.start(tmp_path_factory.mktemp('sick'))


def test_a_healthy_run_is_told_nothing(begun):
  assert diagnose(curves.run('healthy', *begun)) == []


@pytest.mark.parametrize('name', SAYS)
def test_a_sick_run_is_told_what_ails_it_and_the_way_out(begun, name):
  told = diagnose(curves.run(name, *begun))
  ails, way_out = SAYS[name]
  (one,) = [sentence for sentence in told if sentence.startswith(ails)]
  assert way_out in one


def test_chosen_answers_that_sink():
  rows = [
    {'step': k, 'loss/dpo': math.log(2) - 0.02 * (k - 1),
     'logps/chosen': -0.3 - 0.01 * k}
    for k in range(1, 9)
  ]  # fmt: skip
  (one,) = diagnose(rows)
  assert one.startswith('The chosen answers sink')


def test_what_is_no_preference_is_told_nothing(finished):
  rows = files.read_lines(finished[0] / 'base/metrics.jsonl')
  assert rows and diagnose(rows) == []
