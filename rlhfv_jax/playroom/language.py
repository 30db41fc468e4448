"""The playroom's English: what is said and asked about groups of things."""

from __future__ import annotations

import re

from rlhfv_jax.playroom.scene import COLOURS, KINDS, PLACES, Group

NUMBER_WORDS = {1: 'one', 2: 'two', 3: 'three'}
DESCRIBE = (
  'describe the picture.',
  'what is in the picture?',
  'what can you see?',
  'tell me what is there.',
  'say what the picture shows.',
)
ASK = {
  'yesno': 'is there {a} {kind}?',
  'colour': 'what colour {are} the {noun}?',
  'number': 'how many {kinds} are there?',
  'place': 'where {are} the {noun}?',
}
LOOK = 'what is at the {place}?'
NOTHING = 'nothing'
TOKEN = re.compile(r'\w+|[^\w\s]')


def plural(kind: str) -> str:
  return kind + ('es' if kind.endswith(('x', 's', 'ch')) else 's')


def article(word: str) -> str:
  """a or an, by the word that follows."""
  return 'an' if word[0] in 'aeiou' else 'a'


def noun(kind: str, number: int) -> str:
  return kind if number == 1 else plural(kind)


def sentence(
  kind: str, number: int, *, colour: str | None = None, place: str | None = None
) -> str:
  """At the top left there is a red cup, with as much as is given."""
  phrase = noun(kind, number)
  if colour:
    phrase = f'{colour} {phrase}'
  if number == 1:
    head = f'there is {article(phrase)}'
  else:
    head = f'there are {NUMBER_WORDS[number]}'
  where = f'at the {place} ' if place else ''
  return f'{where}{head} {phrase}.'


def describe(group: Group) -> str:
  """The sentence that says all there is to say about a group."""
  return sentence(
    group.kind, group.number, colour=group.colour, place=group.place
  )


def question(form: str, kind: str, number: int = 1) -> str:
  """A closed question of a form in ASK, about things so many."""
  return ASK[form].format(
    a=article(kind),
    kind=kind,
    kinds=plural(kind),
    noun=noun(kind, number),
    are='is' if number == 1 else 'are',
  )


def phrase(group: Group) -> str:
  """What is at a place, in short: two red cups."""
  colour, thing = group.colour, noun(group.kind, group.number)
  count = NUMBER_WORDS[group.number] if group.number > 1 else article(colour)
  return f'{count} {colour} {thing}'


def vocabulary() -> list[str]:
  """Every word and mark that the playroom's questions and answers use."""
  asked = [question(form, k, n) for form in ASK for k in KINDS for n in (1, 2)]
  told = [sentence(k, n) for k in KINDS for n in NUMBER_WORDS]
  words = ['at', 'a', 'an', 'yes', 'no', NOTHING, ',', *NUMBER_WORDS.values()]
  texts = [*DESCRIBE, *asked, *told, *words, *COLOURS, *PLACES]
  return sorted({token for text in texts for token in TOKEN.findall(text)})
