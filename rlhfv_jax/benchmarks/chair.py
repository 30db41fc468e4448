"""CHAIR: objects in captions, not in the picture (Rohrbach et al. 2018).

With the official list of synonyms, given by path, this is the original to the
bit: NLTK's words, pattern's singulars, its two-word terms. Without it our own
lexicon is used, which knows more words and says so in the settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, coco, manner, tally
from rlhfv_jax.benchmarks.lemmas import table
from rlhfv_jax.benchmarks.lexicon import Lexicon, Mention, own, synonyms
from rlhfv_jax.benchmarks.lexicon import mentions as find
from rlhfv_jax.benchmarks.singular import singular

PROMPT = 'Please describe this image in detail.'
TERMS = (
  'motor bike', 'motor cycle', 'air plane', 'traffic light', 'street light',
  'traffic signal', 'stop light', 'fire hydrant', 'stop sign', 'parking meter',
  'suit case', 'sports ball', 'baseball bat', 'baseball glove', 'tennis racket',
  'wine glass', 'hot dog', 'cell phone', 'mobile phone', 'teddy bear',
  'hair drier', 'potted plant', 'laptop computer', 'home plate', 'train track',
)  # fmt: skip
ANIMALS = (
  'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra',
  'giraffe', 'animal', 'cub',
)  # fmt: skip


def terms(words: Iterable[str] = TERMS) -> dict[str, str]:
  """Two words -> what they are read as, by the original's rules."""
  young = {f'{age} {one}': one for age in ('baby', 'adult') for one in ANIMALS}
  return {
    **{word: word for word in words},
    **young,
    'passenger jet': 'jet',
    'passenger train': 'train',
    'bow tie': 'tie',
    'toilet seat': 'toilet',
    'wine glas': 'wine glass',
  }


def official(path: str | Path, *, strict: bool = True) -> Lexicon:
  """The official synonyms; read as the original does, or as they were meant."""
  rows = synonyms(path, strip=not strict)
  classes = {word: row[0] for row in rows for word in row}
  phrases = terms()
  lemma = singular
  if not strict:
    phrases |= {word: word for word in classes if ' ' in word}
    forms = table({part for w in [*classes, *phrases] for part in w.split()})
    lemma = lambda word: forms.get(word, word)
  return Lexicon(Path(path).name, classes, phrases, lemma)


def load(given: Lexicon | str | Path | None, *, strict: bool = True) -> Lexicon:
  """A lexicon as it is, the official one from its path, or ours."""
  if isinstance(given, Lexicon):
    return given
  return own() if given is None else official(given, strict=strict)


def mentions(
  text: str, lexicon: Lexicon | str | Path | None = None
) -> list[tuple[str, str]]:
  """(word, class) of every object a text names, in order."""
  found = find(text, load(lexicon))
  return [(mention.word, mention.object) for mention in found]


def questions(
  path: str | Path, *, images: str | Path | None = None, prompt: str = PROMPT
) -> list[dict]:
  """One question a picture of the truth file or of COCO's folder."""
  known = coco.pictures(path)
  rows = [{'id': i, 'question': prompt} for i in known]
  names = [[p.file] if p.file else [i] for i, p in known.items()]
  return asked.with_pictures(rows, images, names)


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  lexicon: Lexicon | str | Path | None = None,
  strict: bool = True,
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """CHAIRs and CHAIRi of one answer for each picture of the truth.

  `hallucination/all` is CHAIRs, `mention` is CHAIRi.
  """
  words = load(lexicon, strict=strict)
  known = coco.pictures(path)
  texts = asked.texts(answers, list(known), path)
  truths = [coco.truth(picture, words) for picture in known.values()]
  found = [find(text, words) for text in texts]
  columns = coco.columns([[m.object for m in f] for f in found], truths)
  return tally.result(
    'chair',
    list(known),
    {**columns, **manner.columns(texts)},
    settings={'lexicon': words.name, 'strict': strict},
    found=[
      details(mentions, there)
      for mentions, there in zip(found, truths, strict=True)
    ],
    official={
      'CHAIRs': coco.shares(columns, 'hallucination/all'),
      'CHAIRi': coco.shares(columns, 'mention'),
    },
    repeats=repeats,
    seed=seed,
  )


def details(found: Sequence[Mention], there: set[str]) -> dict:
  """What an answer names, which of it is wrong, and what it left out."""
  return {
    'objects': [[m.word, m.object] for m in found],
    'wrong': [
      (m.start, m.end, 'object') for m in found if m.object not in there
    ],
    'left_out': sorted(there - {m.object for m in found}),
  }
