"""The singular of an English word as pattern.en makes it, slips included.

The original CHAIR leans on it, so its numbers need "bus" to become "bu" and
"canoes" to become "cano". Where nothing has to be repeated, `lemmas.py` serves.
"""

from __future__ import annotations

import functools
import re

# A word that ends one of these stays as it is; so does "s" alone.
_UNCHANGED = """
  bison bream breeches britches chassis christmas clippers cod contretemps corps
  debris diabetes djinn eland elk flounder gallows georgia graffiti headquarters
  herpes high-jinks homework innings jackanapes mackerel measles mews mumps news
  pincers pliers proceedings rabies salmon scissors series shears species swine
  swiss trout tuna whiting wildebeest carp advice bread butter cheese
  electricity equipment fruit furniture garbage gravel happiness information
  ketchup knowledge love luggage mathematics mayonnaise meat mustard progress
  research rice sand software understanding water
""".split()  # noqa: SIM905
# A word that ends in one of these and an s stays as it is.
_IE = """
  alergie auntie beanie birdie bogie bombie collie cookie cutie doggie eyrie
  freebie goonie groupie hankie hippie hoagie hottie indie junkie laddie laramie
  lingerie meanie newbie nightie oldie pixie quickie reverie rookie softie
  sortie stoolie sweetie techie toughie valkyrie veggie weenie yuppie zombie
""".split()  # noqa: SIM905
# Endings of their own: the first that fits is exchanged.
_IRREGULAR = {
  'men': 'man', 'children': 'child', 'people': 'person', 'oxen': 'ox',
  'feet': 'foot', 'teeth': 'tooth', 'geese': 'goose', 'leaves': 'leaf',
  'loaves': 'loaf', 'kine': 'cow', 'axes': 'axe', 'sexes': 'sex',
  'moves': 'move', 'helves': 'helve', 'beeves': 'beef', 'turves': 'turf',
  'brethren': 'brother', 'our': 'my', 'atlantes': 'atlas', 'atlases': 'atlas',
  'corpora': 'corpus', 'corpuses': 'corpus', 'ephemerides': 'ephemeris',
  'ganglia': 'ganglion', 'genera': 'genus', 'genii': 'genie',
  'graffiti': 'graffito', 'mongooses': 'mongoose', 'monies': 'money',
  'mythoi': 'mythos', 'numena': 'numen', 'occipita': 'occiput',
  'octopodes': 'octopus', 'opera': 'opus', 'opuses': 'opus', 'penes': 'penis',
  'penises': 'penis', 'soliloquies': 'soliloquy', 'testes': 'testis',
  'trilbys': 'trilby', 'zoa': 'zoon',
}  # fmt: skip
# (what stays, what goes, what comes): the first that fits the end of the word.
_RULES = [
  (re.compile(f'({stays}){goes}$'), rf'\g<1>{comes}')
  for stays, goes, comes in [
    ('.', 'ae', 'a'), ('.itis', '', ''), ('.', 'eaux', 'eau'),
    ('quiz', 'zes', ''), ('matr', 'ices', 'ix'), ('ap', 'ices', 'ex'),
    ('vert', 'ices', 'ex'), ('ind', 'ices', 'ex'), ('alias', 'es', ''),
    ('status', 'es', ''), ('[octpvir|]', 'i', 'us'), ('cris', 'es', 'is'),
    ('ax', 'es', 'is'), ('test', 'es', 'is'), ('shoe', 's', ''),
    ('o', 'es', ''), ('bus', 'es', ''), ('[ml|]', 'ice', 'ouse'),
    ('x', 'es', ''), ('ch', 'es', ''), ('ss', 'es', ''), ('sh', 'es', ''),
    ('movie', 's', ''), ('.ombie', 's', ''), ('series', '', ''),
    ('[^aeiouy]', 'ies', 'y'), ('qu', 'ies', 'y'), ('[aeo]l', 'ves', 'f'),
    ('[^d]ea', 'ves', 'f'), ('ar', 'ves', 'f'), ('erve', 's', ''),
    ('[nlw]i', 'ves', 'fe'), ('[lr]', 'ves', 'f'), ('[aeo]ve', 's', ''),
    ('[sth]ive', 's', ''), ('[^f]', 'ves', 'fe'),
    ('analy|diagno|synop', 'ses', 'sis'), ('ba|the', 'ses', 'sis'),
    ('parenthe', 'ses', 'sis'), ('progno', 'ses', 'sis'), ('.op', 'ses', 'sis'),
    ('.y', 'ses', 'sis'), ('[hdronbp]ose', 's', ''), ('close', 's', ''),
    ('.o', 'ses', 'sis'), ('[ti]', 'a', 'um'), ('news', '', ''), ('', 's', ''),
  ]
]  # fmt: skip


@functools.lru_cache(1 << 16)
def singular(word: str) -> str:
  """The singular of a lower-case word."""
  if any(kept.endswith(word) for kept in _UNCHANGED):
    return word
  if word.endswith(tuple(f'{stem}s' for stem in _IE)):
    return word
  for ending, one in _IRREGULAR.items():
    if word.endswith(ending):
      return word.removesuffix(ending) + one
  for goes, comes in _RULES:
    if goes.search(word):
      return goes.sub(comes, word)
  return word
