"""Short answers as the official VQA evaluation writes them to compare them."""

from __future__ import annotations

import re

DOTS = 32  # that many full stops are taken out: re.UNICODE passed as a count

_NUMBERS = {
  word: str(max(i - 1, 0))
  for i, word in enumerate(
    'none zero one two three four five six seven eight nine ten'.split()  # noqa: SIM905
  )
}
_ARTICLES = ('a', 'an', 'the')
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DOT = re.compile(r'\.(?!\d)')
_NUMERAL = re.compile(r'\d,\d')
# Contractions as the official table has them: the letters, the apostrophes put
# in. Forms with some of their apostrophes missing are in it too.
_WHOLE = """
  ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
  hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd
  it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't
  not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've
  somebody'd've somebody'll somebody's someone'd someone'd've someone'll
  someone's something'd something'd've something'll that's there'd there'd've
  there're there's they'd they'd've they'll they're they've 'twas wasn't
  we'd've we've weren't what'll what're what's what've when's where'd where's
  where've who'd who'd've who'll who's who've why'll why're why's won't would've
  wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
  you've
""".split()  # noqa: SIM905


def _contractions() -> dict[str, str]:
  """Written without one of its apostrophes, or without its only one."""
  found = {}
  for whole in _WHOLE:
    places = [i for i, c in enumerate(whole) if c == "'"]
    dropped = [whole[:i] + whole[i + 1 :] for i in places]
    if len(places) == 3:  # y'all'd've: one of three is never enough
      dropped = ["yall'd've", "y'alld've", "y'all'dve"]
    found |= {form: whole for form in dropped}
  return found | {
    "somebody'd": 'somebodyd',
    "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at",
  }  # fmt: skip


CONTRACTIONS = _contractions()


def normalize(text: str) -> str:
  """An answer as the official evaluation compares it where people disagree."""
  return _words(_unmarked(line(text)))


def line(text: str) -> str:
  return text.replace('\n', ' ').replace('\t', ' ').strip()


def _unmarked(text: str) -> str:
  """Marks out: without a trace beside a blank or a numeral, else as a blank."""
  numeral = _NUMERAL.search(text) is not None
  plain = text
  for mark in _MARKS:
    out = numeral or f'{mark} ' in text or f' {mark}' in text
    plain = plain.replace(mark, '' if out else ' ')
  return _DOT.sub('', plain, DOTS)


def _words(text: str) -> str:
  """Small numbers as digits, no articles, apostrophes in contractions."""
  words = [_NUMBERS.get(word, word) for word in text.lower().split()]
  return ' '.join(
    CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES
  )
