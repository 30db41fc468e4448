"""What is served is what training reads: from an edit to the rows."""

import json
import statistics
import time

import numpy as np
import pytest
from annotators import ANSWER, client, edit, example
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv_jax.annotate import material, queue
from rlhfv_jax.annotate.store import Store
from rlhfv_jax.data import chat, conversion, segments, sources, tokenizer
from rlhfv_jax.data.encode import encode
from rlhfv_jax.playroom import language

TEXT = st.text(st.characters(exclude_categories=['Cs']), max_size=60)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  found = Store(tmp_path_factory.mktemp('annotate'))
  rows = [example(i) for i in range(8)]
  rows += [example(8, ' '.join(f'word{i % 60}' for i in range(200)))]
  queue.add(found, rows, double=0.0)
  return found


@pytest.fixture(scope='module')
def page(store):
  return client(store)


@settings(max_examples=220, deadline=None)
@given(TEXT)
def test_the_served_segments_are_those_of_training(page, text):
  answer = page.post('/api/diff', json={'item': 1, 'text': text})
  assert answer.status_code == 200, answer.text
  view = answer.json()
  text = text.replace('\r\n', '\n').replace('\r', '\n')
  chosen, rejected = segments.spans(text, ANSWER)
  assert [tuple(s['at']) for s in view['segments']] == rejected
  assert [s['new'] for s in view['segments']] == [text[a:b] for a, b in chosen]


def test_an_edit_becomes_the_pair_that_training_reads(tmp_path):
  """From keys to roles: the row equals the one of the spans themselves."""
  store = Store(tmp_path)
  queue.add(store, sources.open('playroom:test/describe/6'), double=0.0)
  page, words = client(store), language.vocabulary()
  tokens = tokenizer.word_tokenizer(words)
  template = chat.template('playroom')
  for item in range(1, 6):
    said = json.loads(store.item(item)['example'])['answers'][-1]
    first, *rest = said.split(' ')
    new = ' '.join([*rest, 'there', 'is', 'a', 'red', 'car', '.'])
    view = page.post('/api/diff', json={'item': item, 'text': new}).json()
    labels = [[*s['at'], 'object'] for s in view['segments']]
    answer = page.post('/api/submit', json=edit(
      item, new, 0, state='corrected', marks={'labels': labels},
      heard=['rewritten'],
    ))  # fmt: skip
    assert answer.status_code == 200, answer.text
  assert queue.next_item(store, 'ada') == 6
  pairs = sources.open(f'annotations:{tmp_path}')
  assert len(pairs) == 5
  for pair in pairs:
    assert pair.annotator == 'ada' and pair.image
    plain = [[span[:2] for span in side] for side in pair.spans]
    assert plain == [list(side) for side in segments.spans(*pair.answers)]
    row = encode(pair, tokens, template, image_tokens=9)
    for answer, spans, roles in zip(pair.answers, plain, row.roles,
                                    strict=True):  # fmt: skip
      told = tokens(answer, add_special_tokens=False,
                    return_offsets_mapping=True)['offset_mapping']  # fmt: skip
      want = segments.roles_from_spans(spans, told)
      np.testing.assert_array_equal(roles[roles > 0][: len(want)], want)


def test_style_weighs_like_what_is_unchanged_and_is_kept(tmp_path):
  store = Store(tmp_path)
  queue.add(store, [example(1)], double=0.0)
  page = client(store)
  new = ANSWER.replace('red', 'blue').replace('stand', 'are')
  view = page.post('/api/diff', json={'item': 1, 'text': new}).json()
  kinds = ('attribute', 'style')
  labels = [
    [*segment['at'], kind]
    for segment, kind in zip(view['segments'], kinds, strict=True)
  ]
  answer = page.post('/api/submit', json=edit(
    1, new, 0, state='corrected', marks={'labels': labels}
  ))  # fmt: skip
  assert answer.json() == {'version': 1, 'state': 'corrected', 'next': None}
  (pair,) = sources.open(f'annotations:{tmp_path}')
  assert pair.spans == (((2, 6, 'attribute'),), ((2, 5, 'attribute'),))
  assert pair.extra['annotation']['style'] == [[24, 27, 23, 28]]
  told = page.post('/api/submit', json=edit(1, 'x', 1, state='corrected'))
  assert told.status_code == 422
  assert {g['kind'] for g in told.json()['guards']} == {
    'rewritten', 'uncategorised'
  }  # fmt: skip


def test_tokens_are_shown_as_training_weighs_them(tmp_path):
  """Those of both texts; a segment marked as style has weight 1."""
  store, words = Store(tmp_path), language.vocabulary()
  tokens = tokenizer.word_tokenizer(words)
  queue.add(store, sources.open('playroom:train/pairs/12'), double=0.0)
  told = lambda text: tokens(
    text, add_special_tokens=False, return_offsets_mapping=True
  )['offset_mapping']
  page, weighed = client(store, tokens=told), {}
  for item, pair in enumerate(sources.open('playroom:train/pairs/12'), 1):
    new, _ = pair.answers
    asked = {'item': item, 'text': new}
    view = page.post('/api/diff', json=asked).json()
    kinds = ['style', *['object'] * len(view['segments'])]
    labels = [[*s['at'], kind] for s, kind in
              zip(view['segments'], kinds, strict=False)]  # fmt: skip
    asked |= {'marks': {'labels': labels}}
    weighed[new] = page.post('/api/tokens', json=asked).json()
    answer = page.post('/api/submit', json=edit(
      item, new, 0, state='corrected', marks={'labels': labels},
      heard=['rewritten'],
    ))  # fmt: skip
    assert answer.status_code == 200, answer.text
  kept = list(sources.open(f'annotations:{tmp_path}'))
  assert len(kept) == 12 and any(any(pair.spans) for pair in kept)
  for pair in kept:
    row = encode(pair, tokens, chat.template('playroom'), image_tokens=9)
    for side, answer, roles in zip(('chosen', 'rejected'), pair.answers,
                                   row.roles, strict=True):  # fmt: skip
      shown = weighed[pair.answers[0]][side]
      text = ''.join(t['before'] + t['text'] for t in shown)
      assert answer.startswith(text)
      want = roles[roles > 0][: len(shown)] == 2
      assert [t['corrected'] for t in shown] == want.tolist()


# All that can hold a pair: llava and unimm are of single answers.
WRITTEN = ('jsonl', 'examples', 'trl', 'rlhfv', 'rlaifv', 'llamafactory',
           'swift', 'muffin_tsv', 'llava_rlhf')  # fmt: skip


@pytest.mark.parametrize('kind', WRITTEN)
def test_the_loop_of_other_formats_keeps_spans_and_categories(tmp_path, kind):
  """Out into what others read, and back in to be corrected again."""
  test_an_edit_becomes_the_pair_that_training_reads(tmp_path / 'W')
  spec, out = f'annotations:{tmp_path / "W"}', f'{kind}:{tmp_path / "out"}'
  conversion.convert(spec, out)
  pairs, back = list(sources.open(spec)), list(sources.open(out))
  assert [(e.answers, e.spans) for e in back] == [
    (e.answers, e.spans) for e in pairs
  ]
  again = list(material.usable(material.open_source(out, None), 'correct', []))
  assert [e.answers for e in again] == [e.answers[-1:] for e in pairs]
  assert [e.image for e in again] == [e.image for e in pairs]


def test_answers_of_a_run_get_their_pictures_again(tmp_path):
  folder = tmp_path / 'runs' / 'ddpo' / 'feedback'
  folder.mkdir(parents=True)
  name = 'answers-train-000.jsonl'
  (want,) = sources.open('playroom:test/describe/1')
  row = {'id': 'test-0-0', 'question': 'what?', 'answer': 'a\r\nb'}
  (folder / name).write_text(json.dumps(row) + '\n')
  spec = material.default(tmp_path / 'runs')
  assert spec == str(folder / name)
  (found,) = material.usable(material.open_source(spec, None), 'correct', [])
  assert found.image == want.image
  assert found.answers == ('a\nb',)
  assert found.extra['answers_as_given'] == ['a\r\nb']
  assert material.default(tmp_path / 'none') == material.PLAYROOM


def test_segments_are_quick(page):
  """The server's share of the 100 ms that a screen has."""
  words = ' '.join(f'word{i % 60}' for i in range(200)).split()
  times = []
  for i in range(40):
    words[(i * 37) % 200] = f'changed{i}'
    begin = time.perf_counter()
    answer = page.post('/api/diff', json={'item': 9, 'text': ' '.join(words)})
    times.append(time.perf_counter() - begin)
    assert answer.status_code == 200
  assert statistics.median(times) < 0.1
