"""Which forms of a noun mean it: ours, and those that WordNet takes back.

A lexicon is a closed list of nouns, so nothing has to be guessed about other
words: their plurals are written out once and looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

_IRREGULAR = {
  'children': 'child', 'geese': 'goose', 'mice': 'mouse', 'oxen': 'ox',
  'knives': 'knife', 'brethren': 'brother',
}  # fmt: skip
_ES = ('s', 'x', 'z', 'ch', 'sh')
# Words of the official lexicons that are no nouns to WordNet 3.0 or plurals
# already: what looks like a plural of theirs is none.
_NOT_IN_WORDNET = set(
  """
  biker bluejay brindle coworker firetruck hairdryer lenovo longboard macbook
  netbook paddleboat pitbull riverboat sailboard shortboard skimboard smartphone
  solider stovetop teddybear televison hot potted glas
  children
""".split()  # noqa: SIM905
)
# WordNet knows "men" (a workforce), prefers the shorter "vas" to "vase", and
# takes "sports" for a plural, so that "sports ball" is never found.
_WORDNET_ONLY = {
  'sports': 'sport', 'skis': 'ski', 'busses': 'bus', 'airbusses': 'airbus',
  'minibusses': 'minibus', 'buffaloes': 'buffalo', 'flamingoes': 'flamingo',
  'taxies': 'taxi', 'leaves': 'leaf', 'potatoes': 'potato',
  'tomatoes': 'tomato',
}  # fmt: skip
_WORDNET_NEVER = ('men', 'vases')


def plurals(word: str) -> set[str]:
  """The plurals of a noun in use, as "taxies" beside "taxis"."""
  forms = {f'{word}s'}
  if word.endswith((*_ES, 'o')):
    forms.add(f'{word}es')
  if word.endswith('y') and word[-2:-1] not in 'aeiou':
    forms.add(f'{word[:-1]}ies')
  for ending in ('f', 'fe'):
    if word.endswith(ending):
      forms.add(word.removesuffix(ending) + 'ves')
  for one, many in (
    ('man', 'men'),
    ('person', 'people'),
    ('child', 'children'),
  ):
    if word.endswith(one):
      forms.add(word.removesuffix(one) + many)
  return forms | {many for many, one in _IRREGULAR.items() if one == word}


def wordnet_plurals(word: str) -> set[str]:
  """The forms that WordNet's morphological rules take back to a noun."""
  if word in _NOT_IN_WORDNET:
    return set()
  forms = {f'{word}s'}
  if word.endswith(_ES):
    forms.add(f'{word}es')
  for one, many in (('y', 'ies'), ('f', 'ves'), ('man', 'men')):
    if word.endswith(one):
      forms.add(word.removesuffix(one) + many)
  for many, one in _IRREGULAR.items():
    if word.endswith(one) and word in (one, 'grandchild', 'pocketknife'):
      forms.add(word.removesuffix(one) + many)
  return forms - set(_WORDNET_NEVER)


def table(
  words: Iterable[str],
  forms: Callable[[str], set[str]] = plurals,
) -> dict[str, str]:
  """Form -> noun; of two nouns with one form, the shorter. Nouns stay."""
  words = set(words)
  return {
    form: word
    for word in sorted(words, key=lambda word: (-len(word), word))
    for form in forms(word) - words
  }


def wordnet_table(words: Iterable[str]) -> dict[str, str]:
  """Form -> noun as NLTK's WordNetLemmatizer has it for these nouns."""
  words = set(words)
  return {
    **table(words, wordnet_plurals),
    **{many: one for many, one in _IRREGULAR.items() if one in words},
    **_WORDNET_ONLY,
  }
