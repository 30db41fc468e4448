"""Work on the page by keyboard alone: what is on it is what is kept."""

import json
import urllib.request

import numpy as np
import pytest
from annotators import server
from test_annotate_loop import trained

from rlhfv_jax import feedback
from rlhfv_jax.annotate import material
from rlhfv_jax.benchmarks import mhumaneval
from rlhfv_jax.data import chat, segments, sources, tokenizer
from rlhfv_jax.data.encode import encode
from rlhfv_jax.playroom import annotator, dataset, language
from rlhfv_jax.playroom.scene import World, sample

pytest.importorskip('selenium', reason='pip install selenium')
from browsing import (  # noqa: E402
  ActionChains,
  By,
  hand_in,
  needs_browser,
  press,
  quiet,
  ready,
  retype,
  saved,
  shoot,
  until,
)  # fmt: skip
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [pytest.mark.slow, needs_browser]
WORLD = World()
LABELS = ('object', 'position', 'number', 'attribute', 'action', 'other')


def kinds(mended, *sides) -> list[str]:
  """Of each segment, what the playroom's truth says is wrong there."""
  told = list(zip(mended.chosen_spans, mended.rejected_spans, strict=True))
  named = []
  for segment in zip(*sides, strict=True):
    (kind,) = {
      span[0][2]
      for span in told
      if any(
        a < end and start < b
        for (a, b), (start, end, _) in zip(segment, span, strict=True)
      )
    }
    named.append(kind)
  return named


def test_twenty_answers_by_keyboard_alone(browser, tmp_path):
  """Corrected and named as the playroom's truth says; exported; trained on."""
  want, count, workdir = [], 39, tmp_path / 'W'
  spec = material.PLAYROOM.replace('/200', f'/{count}')
  with server(workdir, f'--data={spec}') as (_, port):
    browser.get(f'http://localhost:{port}/')
    for index in range(count):
      until(browser, "document.body.dataset.ready === 'yes' && "
            f"location.pathname === '/item/{index + 1}'")  # fmt: skip
      scene = sample(WORLD, 'train', index=feedback.FIRST + index, seed=0)
      _, said = dataset.captioned(scene, WORLD)
      mended = annotator.correct(scene, said)
      if mended is None or mended.text == said:
        press(browser, Keys.ESCAPE, 'x')
        continue
      retype(browser, said, mended.text)
      chosen, rejected = segments.spans(mended.text, said)
      assert browser.execute_script(
        "return document.querySelector('#text').value"
      ) == mended.text  # fmt: skip
      saved(browser)
      until(browser, "document.querySelectorAll('.segment').length === "
            f'{len(chosen)}')  # fmt: skip
      labels = kinds(mended, chosen, rejected)
      press(browser, Keys.ESCAPE)
      press(browser, *(str(LABELS.index(label) + 1) for label in labels))
      if len(want) == 1:
        shoot(browser, 'correct', 'light', 'dark')
      hand_in(browser, index + 1)
      want.append(
        ((mended.text, said),
         tuple(tuple((*span, label) for span, label in
                     zip(side, labels, strict=True))
               for side in (chosen, rejected)))
      )  # fmt: skip
    until(browser, "location.pathname === '/progress'")
    shoot(browser, 'progress', 'light')
    quiet(browser)
    with urllib.request.urlopen(f'http://localhost:{port}/progress') as page:
      told = page.read().decode()
  pairs = list(sources.open(f'annotations:{workdir}'))
  assert [(pair.answers, pair.spans) for pair in pairs] == want
  assert len(want) == 20
  tokens = tokenizer.word_tokenizer(language.vocabulary())
  for pair in pairs:
    row = encode(pair, tokens, chat.template('playroom'), image_tokens=9)
    meets = [any(a < b for a, b, _ in side) for side in pair.spans]
    assert [bool(np.any(roles == 2)) for roles in row.roles] == meets
  assert any('loss' in line for line in trained(told, workdir, out=tmp_path))


def test_labels_by_keyboard_alone(browser, tmp_path):
  """Words are selected and named; MHumanEval's scorer reads what was said."""
  rows = tmp_path / 'answers.jsonl'
  answers = [{'id': f'train-0-{10**6 + i}', 'question': 'what is there?',
              'answer': f'There are {n} red cups. A blue chair, too.'}
             for i, n in enumerate(('two', 'three'))]  # fmt: skip
  rows.write_text(''.join(json.dumps(row) + '\n' for row in answers))
  with server(tmp_path / 'W', '--mode=label', f'--data={rows}') as (_, port):
    ready(browser, port)
    press(browser, Keys.ARROW_RIGHT * 2, '3', Keys.END, Keys.ARROW_LEFT * 3)
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(
      Keys.ARROW_LEFT
    ).key_up(Keys.SHIFT).send_keys('1').perform()
    saved(browser)
    shoot(browser, 'label', 'light')
    hand_in(browser, 1)
    until(browser, "document.body.dataset.ready === 'yes' && "
          "location.pathname === '/item/2'")  # fmt: skip
    press(browser, '4', 'u', 'x')
    until(browser, "location.pathname === '/progress'")
    quiet(browser)
  (said,) = mhumaneval.people_in(tmp_path / 'W')
  marks = {mhumaneval.mark(row['id'], row['answer']): row['answer']
           for row in answers}  # fmt: skip
  found = sorted(
    [(marks[name][s['start'] : s['end']], s['type']) for s in made]
    for name, made in said.items()
  )
  assert found[0] == []
  assert found[1][0] in (('two', 'number'), ('three', 'number'))
  assert found[1][1:] == [('blue chair', 'object')]


def test_rankings_by_keyboard_alone(browser, tmp_path):
  rows = tmp_path / 'pairs.jsonl'
  rows.write_text(
    ''.join(
      json.dumps(
        {
          'id': f'train-0-{10**6 + i}',
          'question': 'what is there?',
          'chosen': 'two cups',
          'rejected': 'a chair',
        }
      )
      + '\n'
      for i in range(2)
    )  # fmt: skip
  )
  with server(tmp_path / 'W', '--mode=rank', f'--data={rows}') as (_, port):
    ready(browser, port)
    press(browser, '3')  # both alike, so: which one helps more
    until(
      browser, "document.querySelector('#ask').textContent.includes('help')"
    )
    shoot(browser, 'rank', 'light')
    press(browser, '1')
    until(browser, "document.body.dataset.ready === 'yes' && "
          "location.pathname === '/item/2'")  # fmt: skip
    first = browser.find_element(By.CSS_SELECTOR, '.version p').text
    press(browser, '2')
    until(browser, "location.pathname === '/progress'")
    quiet(browser)
  one, two = sources.open(f'annotations:{tmp_path / "W"}')
  assert one.extra['annotation']['honesty'] == 'tie'
  assert two.answers[1] == first  # the second one was picked
