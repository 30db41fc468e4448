"""The page on a screen: quick, without scrolling, in two tabs, for all."""

import time

import numpy as np
import pytest
from annotators import server

pytest.importorskip('selenium', reason='pip install selenium')
from browsing import (  # noqa: E402
  By,
  chord,
  needs_axe,
  needs_browser,
  press,
  ready,
  saved,
  until,
  violations,
)  # fmt: skip
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture
def long_answer(tmp_path, browser):
  """A page with an answer of 200 words, and one of 100."""
  rows = tmp_path / 'answers.jsonl'
  words = [f'word{i % 70}' for i in range(200)]
  rows.write_text(
    ''.join(
      f'{{"question": "what?", "answer": "{" ".join(words[:n])}"}}\n'
      for n in (200, 100)
    )
  )
  with server(tmp_path / 'W', f'--data={rows}') as (_, port):
    ready(browser, port)
    yield port


# From the key to the painted segments, in ms, of a hundred edits.
EDITS = """
  const done = arguments[0], text = document.querySelector('#text');
  const diff = document.querySelector('#diff'), times = [];
  (async () => {
    for (let i = 0; i < 100; i++) {
      const words = text.value.split(' ');
      words[(i * 37) % words.length] = 'changed' + arguments[1] + i;
      await new Promise(r => setTimeout(r, 60));
      const begin = performance.now();
      await new Promise(seen => {
        const watch = new MutationObserver(() => {
          watch.disconnect();
          requestAnimationFrame(() => setTimeout(seen));
        });
        watch.observe(diff, {childList: true});
        text.value = words.join(' ');
        text.dispatchEvent(new Event('input'));
      });
      times.push(performance.now() - begin);
    }
    done(times);
  })();
"""


def test_an_edit_is_on_the_screen_within_a_tenth_of_a_second(
  browser, long_answer
):
  """95 of 100 times, in the best of three rounds: others may be busy."""
  browser.set_script_timeout(120)
  rounds = []
  for number in range(3):
    script = EDITS.replace('arguments[1]', str(number))
    times = browser.execute_async_script(script)
    rounds.append(np.quantile(times, [0.5, 0.95]))
    print('segments on the screen: median {:.0f} ms, 95 % within {:.0f} ms'
          .format(*rounds[-1]))  # fmt: skip
  assert min(slow for _, slow in rounds) <= 100


def test_a_hundred_words_need_no_scrolling(browser, long_answer):
  ready(browser, long_answer, 'item/1')
  press(browser, Keys.ESCAPE, 's')
  until(browser, "location.pathname === '/item/2'")
  until(browser, "document.body.dataset.ready === 'yes'")
  chord(browser, Keys.END)
  press(browser, ' more words')
  until(browser, "document.querySelector('.segment')")
  for where in ('document.documentElement', "document.querySelector('.edit')",
                "document.querySelector('#text')",
                "document.querySelector('#diff')"):  # fmt: skip
    tall, seen = browser.execute_script(
      f'return [{where}.scrollHeight, {where}.clientHeight]'
    )
    assert tall <= seen + 1, where


def test_a_closed_tab_and_two_tabs_lose_nothing(browser, long_answer):
  first = browser.current_window_handle
  press(browser, 'first ')
  saved(browser)
  browser.switch_to.new_window('tab')
  ready(browser, long_answer, 'item/1')
  press(browser, 'second ')
  browser.close()  # before the pause is over
  browser.switch_to.window(first)
  time.sleep(1)
  press(browser, 'third ')
  until(browser, "document.querySelector('#stale').open")
  assert browser.find_element(By.ID, 'theirs').text.startswith('second first')
  assert browser.find_element(By.ID, 'mine').text.startswith('first third')
  press(browser, Keys.TAB, Keys.ENTER)
  saved(browser)


@needs_axe
def test_no_serious_violation_of_accessibility(browser, long_answer):
  press(browser, 'another ', Keys.DELETE * 5)
  until(browser, "document.querySelector('.segment')")
  press(browser, Keys.ESCAPE, '2')
  until(browser, "document.querySelector('.l-position')")
  saved(browser)
  press(browser, 't')
  until(browser, "document.querySelector('.token')")
  violations(browser, 'an edit')
  press(browser, '?')
  violations(browser, 'the keys')
  press(browser, Keys.ESCAPE)
  chord(browser, Keys.ENTER)
  until(browser, "location.pathname === '/item/2'")
  for path in ('item/1', 'progress', 'who', 'compare/1'):
    browser.get(f'http://localhost:{long_answer}/{path}')
    time.sleep(0.5)
    violations(browser, path)


@needs_axe
@pytest.mark.parametrize('mode', ['rank', 'label'])
def test_the_other_modes_are_accessible_too(browser, tmp_path, mode):
  spec = 'playroom:test/pairs/2'
  with server(tmp_path, f'--mode={mode}', f'--data={spec}') as (_, port):
    ready(browser, port)
    press(browser, '1' if mode == 'label' else '3')
    violations(browser, mode)
    press(browser, '1' if mode == 'rank' else 'x', 'x')
    for path in ('progress', 'compare/1')[: 2 if mode == 'label' else 1]:
      browser.get(f'http://localhost:{port}/{path}')
      time.sleep(0.5)
      violations(browser, path)
