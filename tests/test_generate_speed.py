"""How fast text is written, beside transformers and whatever the lengths."""

import json
import os
import subprocess
import sys

import pytest
from runs import ENV, ROOT

pytestmark = pytest.mark.skipif(
  'ALONE' not in os.environ, reason='ALONE=1 says that nothing else runs'
)


def measured(kind):
  script = ROOT / 'tests/generate_speed.py'
  out = subprocess.run(
    [sys.executable, script, kind], env=ENV, capture_output=True, text=True,
    check=True,
  ).stdout  # fmt: skip
  return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_at_least_as_fast_as_transformers():
  assert measured('ours') >= measured('theirs')


@pytest.mark.slow
def test_a_spread_of_lengths_costs_little():
  spread, fixed = measured('served')
  assert spread >= 0.75 * fixed
