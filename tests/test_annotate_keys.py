"""Every key does what the sheet says, and no text is anything but text."""

import json

import pytest
from annotators import call, edit, server

from rlhfv_jax.data import sources
from rlhfv_jax.data.example import CATEGORIES

pytest.importorskip('selenium', reason='pip install selenium')
from browsing import (  # noqa: E402
  ActionChains,
  By,
  chord,
  needs_browser,
  press,
  quiet,
  ready,
  retype,
  saved,
  until,
)  # fmt: skip
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.expected_conditions import (  # noqa: E402
  alert_is_present,
)
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = [pytest.mark.slow, needs_browser]
SAID = 'one red cup and two dogs stand on the left.'
NEW = 'one blue cup and three cats stand on the left.'
SCRIPT = '<img src=x onerror=hacked=1><script>hacked=1</script>'


@pytest.fixture
def port(tmp_path, browser):
  """Three answers about pictures of the playroom, the first one opened."""
  rows = tmp_path / 'answers.jsonl'
  rows.write_text(''.join(
    json.dumps({'id': f'train-0-{10**6 + i}', 'question': f'what is in {i}?',
                'answer': SAID}) + '\n' for i in range(3)
  ))  # fmt: skip
  with server(tmp_path / 'W', f'--data={rows}') as (_, port):
    ready(browser, port)
    yield port
    quiet(browser)
    browser.get('about:blank')  # or it asks a server that is gone


def here(browser, item: int) -> None:
  until(browser, "document.body.dataset.ready === 'yes' && "
        f"location.pathname === '/item/{item}'")  # fmt: skip


def text(browser) -> str:
  return browser.execute_script("return document.querySelector('#text').value")


def labels(browser, *want: str) -> None:
  saved(browser)  # so the server has answered, too
  until(browser, "[...document.querySelectorAll('.segment small')]"
        f".map(n => n.textContent).join() === '{','.join(want)}'")  # fmt: skip


def alt(browser, key: str) -> None:
  ActionChains(browser).key_down(Keys.ALT).send_keys(key).key_up(
    Keys.ALT
  ).perform()


def test_segments_are_named_parted_and_joined(browser, port, tmp_path):
  retype(browser, SAID, NEW)
  labels(browser, '?', '?')
  press(browser, Keys.ESCAPE, '4')
  labels(browser, 'attribute', '?')
  press(browser, '/')
  labels(browser, 'attribute', '?', '?')
  press(browser, '3', 'p')
  labels(browser, 'attribute', 'number', 'style')
  press(browser, 'k', 'm')
  labels(browser, 'attribute', 'number')
  press(browser, '/')
  labels(browser, 'attribute', 'number', 'style')
  press(browser, '0')
  labels(browser, 'attribute', '?', 'style')
  press(browser, '5')
  labels(browser, 'attribute', 'action', 'style')
  for key, name in enumerate(CATEGORIES, 1):
    press(browser, str(key))
    labels(browser, 'attribute', name, 'style')
  press(browser, '0')
  labels(browser, 'attribute', '?', 'style')
  press(browser, '6', 'k', '2', 'j', 'j', '1')
  labels(browser, 'position', 'other', 'object')
  chord(browser, Keys.ENTER)
  here(browser, 2)
  (pair,) = sources.open(f'annotations:{tmp_path / "W"}')
  named = [(NEW[a:b], SAID[c:d], kind) for (a, b, kind), (c, d, _) in
           zip(*pair.spans, strict=True)]  # fmt: skip
  assert named == [('blue', 'red', 'position'), ('three', 'two', 'other'),
                   ('cats', 'dogs', 'object')]  # fmt: skip


def test_an_edit_is_undone_and_comes_back(browser, port):
  retype(browser, SAID, NEW)
  labels(browser, '?', '?')
  press(browser, Keys.ESCAPE, 'u')
  assert text(browser) == SAID
  labels(browser)
  chord(browser, 'z')
  assert text(browser) == NEW
  labels(browser, '?', '?')
  press(browser, Keys.ESCAPE, 'e', 'xsfu')  # while one types, keys type
  assert sorted(set(text(browser)) - set(NEW)) == ['x']
  here(browser, 1)


def test_a_guard_is_heard_once_and_an_edit_is_not_left_unawares(browser, port):
  retype(browser, SAID, NEW)
  saved(browser)
  chord(browser, Keys.ENTER)
  until(browser, "document.querySelector('#guards').textContent"
        ".includes('No category yet')")  # fmt: skip
  focused = browser.switch_to.active_element
  assert 'segment' in focused.get_attribute('class')
  press(browser, 'x')
  until(browser, "document.querySelector('#guards').textContent"
        ".includes('was edited')")  # fmt: skip
  here(browser, 1)
  press(browser, 'f')
  here(browser, 2)
  press(browser, Keys.ESCAPE, 's')
  here(browser, 3)
  press(browser, Keys.ESCAPE, '[')
  here(browser, 2)
  press(browser, Keys.ESCAPE, '[')
  here(browser, 1)
  assert browser.find_element(By.CSS_SELECTOR, '.state').text == (
    'flagged before'
  )
  assert text(browser) == NEW
  press(browser, Keys.ESCAPE, ']')
  here(browser, 2)


def test_what_is_shown_is_shown_by_keys(browser, port):
  """The diff, the tokens, the sheet, the picture."""
  retype(browser, SAID, NEW)
  labels(browser, '?', '?')
  lines = [
    browser.execute_script(
      'return getComputedStyle(document.querySelector(arguments[0]))'
      '.textDecorationLine', f'.segment {tag}',
    )
    for tag in ('del', 'ins')
  ]  # fmt: skip
  assert lines == ['line-through', 'underline']  # not by colour alone
  press(browser, Keys.ESCAPE, 'd')
  until(browser, "document.querySelector('#diff').hidden")
  press(browser, 'd', 't')
  until(browser, "[...document.querySelectorAll('.token.corrected')]"
        ".map(n => n.textContent).join() === "
        "'blue,three,cats,red,two,dogs'")  # fmt: skip
  press(browser, '?')
  until(browser, "document.querySelector('#help').open")
  press(browser, '4', Keys.ESCAPE)
  labels(browser, '?', '?')
  scale = "document.querySelector('#scale').textContent"
  moved = "document.querySelector('#picture').style.transform"
  for shown in ('2×', '4×', 'fit', '2×'):
    press(browser, 'z')
    until(browser, f"{scale} === '{shown}'")
  before = browser.execute_script(f'return {moved}')
  alt(browser, Keys.ARROW_RIGHT)
  assert browser.execute_script(f'return {moved}') != before


def test_where_two_differ_a_third_decides_by_a_key(browser, port, tmp_path):
  for person, new in (('bob', 'blue'), ('eve', 'green')):
    told = edit(1, SAID.replace('red', new), 0, state='corrected',
                heard=['uncategorised'])  # fmt: skip
    status, _ = call(port, 'submit', told, cookie=f'annotator={person}')
    assert status == 200
  browser.get(f'http://localhost:{port}/progress')
  (link,) = browser.find_elements(By.CSS_SELECTOR, 'a[href$="compare/1"]')
  link.send_keys(Keys.ENTER)
  until(browser, "location.pathname === '/compare/1'")
  second = browser.find_elements(By.CSS_SELECTOR, '.edited ins')[1].text
  press(browser, '2')
  until(browser, "location.pathname === '/progress'")
  (pair,) = sources.open(f'annotations:{tmp_path / "W"}')
  assert pair.annotator == 'ada'
  assert pair.answers[0] == SAID.replace('red', second)
  assert not browser.find_elements(By.CSS_SELECTOR, 'a[href$="compare/1"]')


@pytest.mark.parametrize('mine', [True, False])
def test_of_two_tabs_with_marks_none_is_overwritten_unasked(
  browser, tmp_path, mine
):
  rows = tmp_path / 'answers.jsonl'
  row = {'id': f'train-0-{10**6}', 'question': 'what?', 'answer': SAID}
  rows.write_text(json.dumps(row) + '\n')
  marks = "[...document.querySelectorAll('#answer [data-type]')]" + (
    '.map(n => n.textContent + n.dataset.type).join()'
  )
  with server(tmp_path / 'W', '--mode=label', f'--data={rows}') as (_, port):
    ready(browser, port)
    late = browser.current_window_handle
    browser.switch_to.new_window('tab')
    ready(browser, port, 'item/1')
    press(browser, '3')
    saved(browser)
    browser.close()
    browser.switch_to.window(late)
    press(browser, Keys.ARROW_RIGHT, '1')
    question = WebDriverWait(browser, 10).until(alert_is_present())
    assert 'Saved elsewhere' in question.text
    (question.accept if mine else question.dismiss)()
    until(browser, "document.body.dataset.ready === 'yes' && "
          f"{marks} === '{'redobject' if mine else 'onenumber'}'")  # fmt: skip
    if mine:
      saved(browser)
    ready(browser, port, 'item/1')
    until(browser, f"{marks} === '{'redobject' if mine else 'onenumber'}'")
  browser.get_log('browser')  # where it is told that a save was refused


def test_scripts_in_a_browser_are_text(browser, tmp_path):
  """In names of files and people, in questions, answers and edits."""
  (png,) = (e.image for e in sources.open('playroom:test/describe/1'))
  picture = f'{SCRIPT.replace("/", "")}.png'
  (tmp_path / picture).write_bytes(png)
  rows = tmp_path / 'answers.jsonl'
  rows.write_text(''.join(
    json.dumps({'id': SCRIPT, 'question': SCRIPT, 'answer': answer,
                'image': picture}) + '\n'
    for answer in (SCRIPT, f'{SCRIPT} {SCRIPT}')
  ))  # fmt: skip
  with server(tmp_path / 'W', f'--data={rows}', f'--images={tmp_path}') as (
    _,
    port,
  ):
    browser.get(f'http://localhost:{port}/who')
    press(browser, SCRIPT[:28], Keys.ENTER)
    here(browser, 1)
    assert text(browser) == SCRIPT
    assert browser.execute_script(
      "return document.querySelector('#picture').naturalWidth"
    )
    press(browser, f'{SCRIPT} ')
    saved(browser)
    assert SCRIPT in browser.find_element(By.ID, 'diff').text
    for _ in range(2):
      chord(browser, Keys.ENTER)
      until(browser, "document.querySelector('#guards')?.textContent || "
            "location.pathname === '/item/2'")  # fmt: skip
    here(browser, 2)
    for path in ('who', 'item/1', 'progress', 'compare/1'):
      browser.get(f'http://localhost:{port}/{path}')
      assert browser.execute_script('return typeof hacked') == 'undefined'
      assert not browser.find_elements(By.CSS_SELECTOR, 'img[src="x"]')
      assert path == 'who' or SCRIPT[:28] in browser.page_source.replace(
        '&lt;', '<'
      ).replace('&gt;', '>')
    assert SCRIPT in browser.find_element(By.CSS_SELECTOR, '.version p').text
  quiet(browser)  # nor did the policy have to forbid anything
