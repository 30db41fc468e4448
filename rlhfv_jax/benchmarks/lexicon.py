"""Which of COCO's objects a text names: words, phrases and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rlhfv_jax.benchmarks import lemmas
from rlhfv_jax.benchmarks.words import Word, cut

OWN = Path(__file__).with_name('objects.txt')


@dataclass(frozen=True)
class Lexicon:
  """A closed vocabulary of objects.

  `classes` maps a word (or a phrase, its words joined by blanks) to the class
  it means. `phrases` maps what is read as one to the word it stands for, which
  need not be in `classes`: "home plate" is no plate. `lemma` makes a token
  what the two are written in.
  """

  name: str
  classes: Mapping[str, str]
  phrases: Mapping[str, str]
  lemma: Callable[[str], str]

  @cached_property
  def objects(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(self.classes.values()))

  @cached_property
  def starts(self) -> dict[tuple[str, ...], list[list[str]]]:
    """First two words -> the phrases that begin so, the longest first."""
    found: dict[tuple[str, ...], list[list[str]]] = {}
    for phrase in sorted(self.phrases, key=lambda p: -len(p.split())):
      words = phrase.split()
      found.setdefault(tuple(words[:2]), []).append(words)
    return found


class Mention(NamedTuple):
  """An object named in a text: its word, its class, and where."""

  word: str
  object: str
  start: int
  end: int


def mentions(text: str, lexicon: Lexicon) -> list[Mention]:
  """All objects that a text names, in order, one for each time."""
  found = merged(cut(text), lexicon)
  return [
    Mention(word, lexicon.classes[word], start, end)
    for word, start, end in without_seats(found)
    if word in lexicon.classes
  ]


def merged(words: Iterable[Word], lexicon: Lexicon) -> list[Word]:
  """Lemmas in order, with phrases read as one."""
  words = list(words)
  lemmas = [lexicon.lemma(word.text) for word in words]
  return [
    Word(text, words[start].start, words[end - 1].end)
    for text, start, end in phrased(lemmas, lexicon)
  ]


def phrased(
  lemmas: Sequence[str], lexicon: Lexicon
) -> list[tuple[str, int, int]]:
  """What lemmas i to j are read as, from the left, the longest first."""
  read, i = [], 0
  while i < len(lemmas):
    size, text = 1, lemmas[i]
    for phrase in lexicon.starts.get(tuple(lemmas[i : i + 2]), ()):
      if lemmas[i : i + len(phrase)] == phrase:
        size, text = len(phrase), lexicon.phrases[' '.join(phrase)]
        break
    read.append((text, i, i + size))
    i += size
  return read


def without_seats(words: list[Word]) -> list[Word]:
  """CHAIR: where there is a toilet, a seat is its seat and not a chair."""
  texts = {word.text for word in words}
  if not {'toilet', 'seat'} <= texts:
    return words
  return [word for word in words if word.text != 'seat']


def synonyms(path: str | Path, *, strip: bool = True) -> list[list[str]]:
  """The lines of an official list: a class and its synonyms in each.

  The original CHAIR splits at comma and blank and leaves a second blank in the
  word, which then never matches: `strip=False`.
  """
  lines = Path(path).read_text('utf-8').splitlines()
  rows = [line.strip().split(', ') for line in lines if line.strip()]
  if not rows or any(':' in row[0] for row in rows):
    raise ValueError(
      f'{path}: not a list of synonyms, one class a line: "person, man, woman"'
    )
  return [[word.strip() if strip else word for word in row] for row in rows]


def own(path: str | Path = OWN) -> Lexicon:
  """Our lexicon, or another file written like objects.txt."""
  rows = _rows(path)
  qualifiers = rows.pop('qualifiers', [])
  nothing = rows.pop('nothing', [])
  classes: dict[str, str] = {}
  for name, words in rows.items():
    for word in [name, *words]:
      if classes.setdefault(_phrase(word), name) != name:
        raise ValueError(
          f'{path}: {word!r} is a {classes[_phrase(word)]} and a {name}'
        )
  phrases = {
    f'{qualifier} {word}': word
    for word, name in classes.items()
    for qualifier in qualifiers
    if name != 'person'
  }
  phrases |= {word: word for word in map(_phrase, nothing)}
  phrases |= {word: word for word in classes if ' ' in word}
  parts = {part for word in [*classes, *phrases] for part in word.split()}
  forms = lemmas.table(parts)
  return Lexicon(
    name=Path(path).name,
    classes=classes,
    phrases=phrases,
    lemma=lambda word: forms.get(word, word),
  )


def _phrase(text: str) -> str:
  return ' '.join(word.text for word in cut(text))


def _rows(path: str | Path) -> dict[str, list[str]]:
  rows: dict[str, list[str]] = {}
  for number, line in enumerate(Path(path).read_text('utf-8').splitlines(), 1):
    if not line.strip() or line.startswith('#'):
      continue
    name, colon, words = line.partition(':')
    if not colon or not words.strip() or name in rows:
      raise ValueError(
        f'{path}, line {number}: {line[:60]!r}; want "class: word, word" once '
        'a class'
      )
    rows[name] = [word.strip() for word in words.split(',')]
  return rows
