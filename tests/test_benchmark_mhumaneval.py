"""MHumanEval: the sheet is blind, and labels come back as rates."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from rlhfv_jax.benchmarks import mhumaneval, mhumaneval_sheet
from rlhfv_jax.benchmarks.mhumaneval import FORMAT, kappa, mark


def png():
  with io.BytesIO() as out:
    Image.new('RGB', (4, 4), 'red').save(out, 'PNG')
    return out.getvalue()


ASKS = [{'id': f'q{i}', 'question': f'What is {i}?'} for i in range(6)]


@pytest.fixture
def path(tmp_path):
  file = tmp_path / 'sample.jsonl'
  picture = base64.b64encode(png()).decode()
  rows = [{**ask, 'image': picture} for ask in ASKS]
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return file


def said(name):
  texts = [f'{name} sees a </script> 😀 dog {i}.' for i in range(6)]
  texts[0] = 'A dog.'  # what both models say
  return [
    {'id': ask['id'], 'answer': text}
    for ask, text in zip(ASKS, texts, strict=True)
  ]


MODELS = {'ours': said('one'), 'theirs': said('another')}


def data(page):
  return json.loads(
    re.search(r'type="application/json">(.*?)</script>', page, re.S)[1]
  )


def test_the_sheet_is_one_blind_page(path, tmp_path):
  out = tmp_path / 'sheet.html'
  assert mhumaneval_sheet.export(MODELS, path, out) == 11
  page = out.read_text()
  sheet = data(page)
  assert 'ours' not in page and 'theirs' not in page
  assert not re.search(r'(?:src|href)="?https?:', page)
  answers = {i['mark']: i['answer'] for i in sheet['items']}
  for given in MODELS.values():
    for answer in given:
      made = mark(answer['id'], answer['answer'])
      assert answers[made] == answer['answer']
  order = [item['picture'] for item in sheet['items']]
  assert order != sorted(order)
  picture = sheet['pictures']['q3'].partition(',')[2]
  assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (4, 4)
  again = tmp_path / 'again.html'
  mhumaneval_sheet.export(dict(reversed(MODELS.items())), path, again)
  assert {i['mark'] for i in data(again.read_text())['items']} == set(answers)


def labelled(path, segments, *, model='ours', undone=()):
  """A file as the sheet saves it: question number -> types marked in it."""
  labels = {}
  for i, answer in enumerate(MODELS[model]):
    made = [{'start': n, 'end': n + 1, 'type': kind}
            for n, kind in enumerate(segments.get(i, ()))]  # fmt: skip
    labels[mark(answer['id'], answer['answer'])] = {
      'done': i not in undone, 'segments': made,
    }  # fmt: skip
  path.write_text(json.dumps(
    {'format': FORMAT, 'annotator': 'A', 'labels': labels}
  ))  # fmt: skip
  return path


def test_rates_of_one_person(path, tmp_path):
  file = labelled(
    tmp_path / 'a.json', {0: ['object', 'object'], 1: ['number'],
                          2: ['object', 'other']}, undone=[5],
  )  # fmt: skip
  got = mhumaneval.score(MODELS['ours'], path, labels=[file])
  values = {k: v['value'] for k, v in got['metrics'].items()}
  assert values['hallucination'] == 3 / 5
  assert values['hallucination/object'] == 2 / 5
  assert values['hallucination/position'] == 0
  assert values['hallucination/number'] == values['hallucination/other'] == 0.2
  assert values['segments'] == 1
  assert got['metrics']['hallucination']['n'] == 5
  assert got['answers'][2]['wrong'] == [(0, 1, 'object'), (1, 2, 'other')]
  assert any('not judged: q5' in w for w in got['warnings'])
  assert 'agreement' not in values
  # The one answer that both models gave is labelled for both.
  theirs = mhumaneval.score(MODELS['theirs'], path, labels=[file])
  assert theirs['metrics']['hallucination']['n'] == 1
  assert theirs['metrics']['hallucination']['value'] == 1
  low, high = (got['metrics']['hallucination'][k] for k in ('low', 'high'))
  assert low == pytest.approx(0.2307, abs=1e-3)
  assert high == pytest.approx(0.8824, abs=1e-3)
  assert {'hallucination/object'} < set(got['published'][0]['metrics'])
  json.dumps(got, allow_nan=False)


def test_several_people_and_their_agreement(path, tmp_path):
  one = labelled(tmp_path / 'a.json', {0: ['object'], 1: ['object']})
  two = labelled(tmp_path / 'b.json', {0: ['object'], 2: ['number']})
  three = labelled(tmp_path / 'c.json', {0: ['other']}, undone=[1, 2, 3, 4, 5])
  got = mhumaneval.score(MODELS['ours'], path, labels=[one, two, three])
  values = {k: v['value'] for k, v in got['metrics'].items()}
  # q0 by all, q1 and q2 by one of two: at least half.
  assert values['hallucination'] == 3 / 6
  assert values['hallucination/object'] == 2 / 6
  assert values['hallucination/other'] == 0
  pair = kappa([1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0])
  # The pairs with the third share one answer, on which all say the same.
  assert values['agreement'] == pytest.approx((pair + 1 + 1) / 3)
  assert got['metrics']['agreement']['n'] == 6 + 1 + 1


def test_kappa_against_known_values():
  # Cohen's own kind of table, by hand: 20 5 / 10 15 of 50.
  one = [1] * 25 + [0] * 25
  other = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
  assert kappa(one, other) == pytest.approx(0.4)
  assert kappa([1, 1], [1, 1]) == 1
  assert kappa([1, 0], [0, 1]) == -1


def test_bad_labels_are_named(path, tmp_path):
  file = tmp_path / 'labels.json'
  file.write_text('{"format": "other"}')
  with pytest.raises(ValueError, match="labels.json: format 'other', want"):
    mhumaneval.read_labels(file)
  labelled(file, {0: ['colour']})
  with pytest.raises(ValueError, match='type of object, position, number'):
    mhumaneval.read_labels(file)
  with pytest.raises(ValueError, match='no labels: give the files'):
    mhumaneval.score(MODELS['ours'], path, labels=[])


def test_a_sample_is_drawn_from_benchmarks(tmp_path):
  sources = {
    'objhal': [{'id': str(i), 'question': 'a', 'image': png()}
               for i in range(9)],
    'mmhal': [{'id': str(i), 'question': 'b', 'image_path': '/x/y.png'}
              for i in range(3)],
  }  # fmt: skip
  out = tmp_path / 'sample.jsonl'
  mhumaneval_sheet.sample(sources, out, n={'objhal': 4})
  (tmp_path / 'y.png').write_bytes(png())
  asks = mhumaneval.questions(out, images=tmp_path)
  ids = [ask['id'] for ask in asks]
  assert len(ids) == 7 and ids[4:] == ['mmhal/0', 'mmhal/1', 'mmhal/2']
  assert asks[0]['image'] == png()
  assert asks[6]['image_path'] == str(tmp_path / 'y.png')
  with pytest.raises(ValueError, match='objhal: 10 questions of 9'):
    mhumaneval_sheet.sample(sources, out, n={'objhal': 10})
