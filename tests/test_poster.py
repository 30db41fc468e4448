"""The poster shows what was said, and what of it was wrong."""

import io

from PIL import Image

from rlhfv_jax.report.plots import png
from rlhfv_jax.report.poster import laid_out, poster


def test_every_word_is_laid_out_once_and_marked_where_it_is_wrong():
  text = 'a red cup stands at the top left. two chairs are there.'
  start = text.index('red')
  spans = [(start, start + 7, 'object'), (34, 44, 'object')]
  parts = list(laid_out(text, spans, 12))
  assert max(column + len(part) for _, column, part, _ in parts) <= 12
  lines = {}
  for line, column, part, _ in parts:
    assert column == len(lines.get(line, ''))
    lines[line] = lines.get(line, '') + part
  assert ' '.join(lines.values()) == text
  wrong = ' '.join(part.strip() for *_, part, bad in parts if bad)
  assert wrong == 'red cup two chairs'


def test_an_empty_answer_is_nothing_to_lay_out():
  assert list(laid_out('', [], 10)) == []


def test_the_first_wrong_answers_are_shown_whatever_became_of_them():
  out = io.BytesIO()
  Image.new('RGB', (8, 8), 'red').save(out, 'PNG')
  said = [
    {
      'id': str(i),
      'answer': f'thing {i}.',
      'spans': [(0, 5, 'object')] * (i > 0),
    }
    for i in range(5)
  ]
  asked = []
  figure = poster(
    {'base': said, 'ddpo': said},
    lambda id: asked.append(id) or out.getvalue(),
    n=2,
  )
  assert asked == ['1', '2']
  assert Image.open(io.BytesIO(png(figure))).size[0] > 500
  assert poster({'base': said[:1], 'ddpo': said}, lambda id: b'') is None
