"""A browser in tests, as a person has it: keys are pressed, pages looked at.

`bash tests/browser.sh` brings Chromium, its driver and axe-core, as in the CI;
what is missing skips what needs it. SHOTS=docs keeps pictures of the pages.
"""

import os
import shutil
import time
from pathlib import Path

import pytest
from annotators import ROOT
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from rlhfv_jax.data import segments

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
AXE = ROOT / 'node_modules/axe-core/axe.min.js'
SHOTS = os.environ.get('SHOTS')
FLAGS = (
  '--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu',
  '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--hide-scrollbars',
)  # fmt: skip
VIOLATIONS = """
  const done = arguments[0];
  axe.run().then(found => done(found.violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .flatMap(v => v.nodes.map(n => [v.id, n.html, n.failureSummary]))));
"""
needs_browser = pytest.mark.skipif(
  not (CHROMIUM and DRIVER), reason='no Chromium: bash tests/browser.sh'
)
needs_axe = pytest.mark.skipif(
  not AXE.is_file(), reason='no axe-core: bash tests/browser.sh'
)


def start(profile: Path) -> webdriver.Chrome:
  """1280 x 800, with a profile that nobody had before."""
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for flag in (*FLAGS, f'--user-data-dir={profile}'):
    options.add_argument(flag)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
  screen = {'width': 1280, 'height': 800, 'deviceScaleFactor': 1}
  found.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride', screen | {'mobile': False}
  )
  return found


def press(browser, *keys: str) -> None:
  for key in keys:
    ActionChains(browser).send_keys(key).perform()


def chord(browser, key: str) -> None:
  ActionChains(browser).key_down(Keys.CONTROL).send_keys(key).key_up(
    Keys.CONTROL
  ).perform()


def until(browser, script: str, seconds: float = 15):
  end = time.time() + seconds
  while time.time() < end:
    if found := browser.execute_script(f'return {script}'):
      return found
    time.sleep(0.03)
  raise AssertionError(f'never: {script}')


def ready(browser, port: int, path: str = '') -> None:
  browser.get(f'http://localhost:{port}/{path}')
  until(browser, "document.body.dataset.ready === 'yes'")


def saved(browser) -> None:
  until(browser, "document.querySelector('#saved').textContent === 'saved'")


def theme(browser, name: str) -> None:
  """Light or dark, once the page has been painted so."""
  browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {
    'features': [{'name': 'prefers-color-scheme', 'value': name}]
  })  # fmt: skip
  until(browser, f"matchMedia('(prefers-color-scheme: {name})').matches")
  browser.execute_async_script(
    'const done = arguments[0];'
    'requestAnimationFrame(() => requestAnimationFrame(done));'
  )


def shoot(browser, name: str, *themes: str) -> None:
  """A picture of the page, where somebody wants one: small, as docs have."""
  for chosen in themes if SHOTS else ():
    theme(browser, chosen)
    file = Path(SHOTS) / f'annotate-{name}-{chosen}.png'
    browser.save_screenshot(str(file))
    with Image.open(file) as picture:
      small = picture.convert('RGB').quantize(256)
    small.save(file, optimize=True)
    theme(browser, 'light')


def retype(browser, old: str, new: str) -> None:
  """Goes to what differs by arrow keys, and types over it, from the end."""
  chosen, rejected = segments.spans(new, old)
  at = 0
  chord(browser, Keys.HOME)
  for (a, b), (c, d) in zip(chosen, rejected, strict=True):
    here = a  # what stands before is typed already
    ActionChains(browser).send_keys(
      Keys.ARROW_RIGHT * (here - at) + Keys.DELETE * (d - c) + new[a:b]
    ).perform()
    at = b


def hand_in(browser, item: int) -> None:
  """Submits, and again where the page had something to say."""
  chord(browser, Keys.ENTER)
  try:
    until(browser, "document.querySelector('#guards')?.textContent || "
          f"location.pathname !== '/item/{item}'")  # fmt: skip
    if browser.find_elements(By.CSS_SELECTOR, '#guards p'):
      chord(browser, Keys.ENTER)
  except Exception as error:  # the page went on meanwhile
    assert 'stale' in str(error) or 'no such element' in str(error), error


def quiet(browser) -> None:
  """Nothing went wrong but what a guard said, which is a 422."""
  severe = [line for line in browser.get_log('browser')
            if line['level'] == 'SEVERE' and '422' not in line['message']
            and 'favicon' not in line['message']]  # fmt: skip
  assert not severe, severe


def violations(browser, where: str) -> None:
  """None that axe-core calls serious, by day or by night."""
  for name in ('light', 'dark'):
    theme(browser, name)
    browser.execute_script(AXE.read_text('utf-8'))
    bad = browser.execute_async_script(VIOLATIONS)
    assert not bad, (where, name, bad)
