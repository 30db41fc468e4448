"""The other ways to annotate: rankings, labels, and edits with suggestions."""

import html
import json
import re

import pytest
from annotators import ANSWER, client, edit, example, save

from rlhfv_jax.annotate import labels, material, queue, visit
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.benchmarks import mhumaneval
from rlhfv_jax.benchmarks.mhumaneval import FORMAT, mark
from rlhfv_jax.data import conversion, sources


def test_rankings_become_preferences(tmp_path):
  store = Store(tmp_path)
  two = [example(i) for i in range(8)]
  two = [e.__class__(**{**vars(e), 'answers': ('good', 'bad')}) for e in two]
  queue.add(store, material.usable(two, 'rank', []), double=0.0)
  page = client(store, mode='rank')
  for item in range(1, 9):
    shown = page.get(f'/item/{item}').text
    first = visit.first(item, 'ada')
    assert (shown.index('<p>good') < shown.index('<p>bad')) == (first == 0)
    tie = item % 2
    told = {'item': item, 'version': 0, 'save': save()}
    told |= {'honesty': 'tie' if tie else first, 'helpfulness': first}
    answer = page.post('/api/rank', json=told)
    assert answer.status_code == 200, answer.text
  pairs = list(sources.open(f'annotations:{tmp_path}'))
  assert [pair.answers for pair in pairs] == [('good', 'bad')] * 8
  assert [p.extra['annotation']['honesty'] for p in pairs[:2]] == [
    'tie', 'decides'
  ]  # fmt: skip
  assert {visit.first(i, 'ada') for i in range(1, 9)} == {0, 1}
  out = f'llava_rlhf:{tmp_path / "out"}'
  conversion.convert(f'annotations:{tmp_path}', out)
  assert [p.answers for p in sources.open(out)] == [('good', 'bad')] * 8
  assert page.get('/compare/1').status_code == 404  # there are no edits


def labelled(item, marked, version=0, **told):
  return {'item': item, 'version': version, 'save': save(), 'marked': marked,
          **told}  # fmt: skip


def test_labels_are_rates_of_mhumaneval(tmp_path):
  """The folder says what the sheet's files say, of whoever gave the answer."""
  questions = tmp_path / 'questions.jsonl'
  questions.write_text(
    ''.join(f'{{"id": "row-{i}", "question": "what?"}}\n' for i in range(4))
  )
  store = Store(tmp_path / 'W')
  rows = [example(i) for i in range(4)] + [example(1, model='another')]
  found = material.shuffled(material.usable(rows, 'label', []))
  assert queue.add(store, found, double=1.0) == 4  # equal answers once
  people = {'ada': {}, 'bob': {}}
  for item in range(1, 5):
    said = json.loads(store.item(item)['example'])
    assert 'another' not in json.dumps(said)
    name = mark(said['id'], ANSWER)
    for person, marks in (
      ('ada', [[1, 2, 'object'], [4, 4, 'number']][: item - 1]),
      ('bob', [[2, 2, 'object']][: item % 2]),
    ):
      page = client(store, mode='label', person=person)
      told = labelled(item, marks, state='open')
      assert page.post('/api/label', json=told).json() == {'version': 1}
      told = labelled(item, marks, 1, state='labelled')
      answer = page.post('/api/label', json=told)
      if not marks:  # it is asked whether that is meant
        assert answer.status_code == 422
        assert answer.json()['guards'][0]['kind'] == 'unmarked'
        answer = page.post('/api/label', json=told | {'heard': ['unmarked']})
      assert answer.json()['state'] == 'labelled', answer.text
      words = [ANSWER.index(word) for word in ANSWER.split()]
      people[person][name] = {'done': True, 'segments': [
        {'start': words[a], 'type': kind,
         'end': words[b] + len(ANSWER.split()[b])} for a, b, kind in marks
      ]}  # fmt: skip
  files = []
  for person, said in people.items():
    files.append(tmp_path / f'{person}.json')
    files[-1].write_text(json.dumps(
      {'format': FORMAT, 'annotator': person, 'labels': said}
    ))  # fmt: skip
  answers = [{'id': f'row-{i}', 'answer': ANSWER} for i in range(4)]
  one = mhumaneval.score(answers, questions, labels=[tmp_path / 'W'])
  other = mhumaneval.score(answers, questions, labels=files)
  assert one == other
  assert one['metrics']['hallucination/number']['value'] == 2 / 4
  page = client(store, mode='label', person='eve')
  for path in ('/progress', '/compare/4', '/item/4'):
    assert page.get(path).status_code == 200
  assert not len(sources.open(f'annotations:{tmp_path / "W"}'))


@pytest.mark.parametrize(
  'marked',
  ['x', [[0, 1]], [[1, 0, 'object']], [[0, 99, 'object']], [[0, 0, 'style']],
   [[0, 2, 'object'], [2, 3, 'object']], [[True, 2, 'object']],
   [[3, 3, 'object'], [0, 0, 'object']], [[0, 0, 'object']] * 99],
)  # fmt: skip
def test_marks_outside_the_answer_are_refused(tmp_path, marked):
  store = Store(tmp_path)
  queue.add(store, [example(1)], double=0.0)
  told = labelled(1, marked, state='labelled')
  answer = client(store, mode='label').post('/api/label', json=told)
  assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
  'text', [ANSWER, '', ' a\n b—c! 日本 𝒳', "it's so-so."]
)
def test_words_spell_the_answer_and_segments_are_their_characters(text):
  words = labels.words(text)
  assert ''.join(before + word for before, word in words) == text
  for i, (_, word) in enumerate(words[:-1]):
    ((_, (start, end), kind),) = labels.segments(text, [(i, i, 'other')])
    assert (text[start:end], kind) == (word, 'other')


def test_pictures_of_questions_come_by_id(tmp_path):
  (png,) = [e.image for e in sources.open('playroom:test/describe/1')]
  (tmp_path / 'a.png').write_bytes(png)
  file = tmp_path / 'questions.jsonl'
  file.write_text('{"id": "row-1", "question": "?", "image_file": "a.png"}\n')
  (found,) = material.asked([example(1)], str(file), str(tmp_path))
  assert found.image == png
  with pytest.raises(ValueError, match="no question 'row-2', which is answer"):
    list(material.asked([example(2)], str(file), str(tmp_path)))


def test_suggestions_are_off_unless_asked_for_and_kept(tmp_path):
  """What the model doubted shows where it still stands, in the share asked."""
  store = Store(tmp_path)
  doubts = [[2, 9, 0.1], [14, 17, 0.2]]  # 'red car' and 'two'
  queue.add(
    store, [example(i, extra={'doubts': doubts}) for i in range(30)], double=0.0
  )
  new = ANSWER.replace('red', 'blue')
  plain = client(store).post('/api/diff', json={'item': 1, 'text': new}).json()
  assert 'runs' not in plain
  told = {'item': 1, 'text': new, 'suggested': True}
  runs = client(store).post('/api/diff', json=told).json()['runs']
  assert [[text for text, doubt in run if doubt] for run in runs] == [
    [], [' car', 'two']
  ]  # fmt: skip
  assert [''.join(text for text, _ in run) for run in runs] == plain['same']
  half = client(store, suggest=0.5)
  shown = {}
  for item in range(1, 31):
    page = half.get(f'/item/{item}').text
    shown[item] = '"suggested": true' in page
    assert shown[item] == ('the model was unsure' in page)
    answer = half.post('/api/submit', json=edit(item, ANSWER, 0, state='clean'))
    assert answer.status_code == 200
  assert 5 < sum(shown.values()) < 25
  kept = sources.open(f'annotations:{tmp_path}?clean=true')
  assert {
    int(e.id.partition('-')[2]) + 1: 'suggested' in e.extra['annotation']
    for e in kept
  } == shown
  assert 'With the model’s doubts shown' in half.get('/progress').text


def test_where_two_differ_somebody_decides(tmp_path):
  """Both versions stand side by side; the one that is taken is trained on."""
  store = Store(tmp_path)
  queue.add(store, [example(i) for i in range(2)], double=1.0)
  for person, new in (('ada', 'blue'), ('bob', 'green')):
    page, text = client(store, person=person), ANSWER.replace('red', new)
    for item in (1, 2):
      told = edit(item, text if item == 1 else ANSWER.replace('two', 'six'), 0,
                  state='corrected')  # fmt: skip
      answer = page.post('/api/submit', json=told | {'heard': [
        'uncategorised'
      ]})  # fmt: skip
      assert answer.status_code == 200, answer.text
  page = client(store, person='eve')
  told = page.get('/progress').text
  assert 'compare/1' in told and 'compare/2' not in told
  shown = page.get('/compare/1').text
  assert '<ins>blue</ins>' in shown and '<ins>green</ins>' in shown
  takes = re.findall(r'data-take="(.*?)"', shown)
  taken = json.loads(html.unescape(takes[1]))
  assert taken['text'] == ANSWER.replace('red', 'green')
  answer = page.post('/api/submit', json={
    **taken, 'item': 1, 'version': 0, 'save': save(), 'final': True,
    'heard': ['uncategorised'],
  })  # fmt: skip
  assert answer.status_code == 200, answer.text
  assert 'compare/1' not in page.get('/progress').text
  one, two = sources.open(f'annotations:{tmp_path}')
  assert (one.answers[0], one.annotator) == (taken['text'], 'eve')
  assert two.annotator == 'ada'
