"""The gallery: marks change no character, and answers stand by their fate."""

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st
from test_report import picture_of

from rlhfv_jax.report.gallery import gallery, marked

_SPANS = st.lists(
  st.tuples(st.integers(0, 20), st.integers(1, 10), st.sampled_from('ab<'))
)


@given(st.text(max_size=20), _SPANS)
def test_marks_cover_the_spans_and_change_no_character(text, drawn):
  spans = [(s, min(s + n, len(text)), c) for s, n, c in drawn if s < len(text)]
  said, names = [], ''
  for part in re.split('(<[^>]*>)', marked(text, spans)):
    if part.startswith('<'):
      opened = re.search('title="([^"]*)"', part)
      names = unescape(opened[1]) if opened else names * (part == '<u>')
    else:
      said += [(character, names) for character in unescape(part)]
  assert ''.join(character for character, _ in said) == text
  for i, (_, names) in enumerate(said):
    over = {c for start, end, c in spans if start <= i < end}
    assert set(names.split(', ')) == (over or {''})


def test_answers_are_grouped_by_what_became_of_them():
  wrong, right = [[0, 3, 'object']], []
  fates = [(wrong, right)] * 9 + [(wrong, wrong)] * 2 + [(right, wrong)]
  answers = {'base': [], 'ddpo': []}
  for i, spans in enumerate(fates):
    for model, its in zip(answers, spans, strict=True):
      row = {'id': str(i), 'question': '?', 'answer': 'a cup.'}
      answers[model].append(row | {'spans': its})
  text = gallery(answers, picture_of, examples=3)
  assert re.findall(r'<h3>(.*?)</small>', text) == [
    'Mended <small>9 of 12',
    'Still wrong <small>2 of 12',
    'Newly wrong <small>1 of 12',
  ]
  assert text.count('<article') == text.count('<img') == 3 + 2 + 1
