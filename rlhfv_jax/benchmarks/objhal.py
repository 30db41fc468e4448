"""Object HalBench: detailed descriptions held against what is in the picture.

The objects of an answer come from our lexicon or the official one (lexical),
from a judge's lists (`prompts`, then `replies`), or from lists that are stored
(`extractions`). Facts and formulas are those of RLHF-V's released evaluation.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked, chair, coco, extraction, manner, tally
from rlhfv_jax.benchmarks.judging import fill, matched, request, template
from rlhfv_jax.benchmarks.lemmas import table, wordnet_table
from rlhfv_jax.benchmarks.lexicon import Lexicon, Mention, own, synonyms
from rlhfv_jax.benchmarks.lexicon import mentions as find

FEW = 3  # words: so short an answer is taken to name nothing, unjudged
JUDGE = {'temperature': 0.2, 'top_p': 1, 'max_tokens': 512}


def official(path: str | Path, *, strict: bool = True) -> Lexicon:
  """RLHF-V's refined synonyms with WordNet's lemmas, or with ours."""
  classes = {word: row[0] for row in synonyms(path) for word in row}
  pairs = [word for word in classes if len(word.split()) == 2]
  phrases = chair.terms([*pairs, 'home plate', 'train track'])
  if not strict:
    phrases = {word: word for word in classes if ' ' in word} | phrases
  parts = {part for word in [*classes, *phrases] for part in word.split()}
  forms = wordnet_table(parts) if strict else table(parts)
  return Lexicon(
    Path(path).name, classes, phrases, lambda word: forms.get(word, word)
  )


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


def questions(path: str | Path) -> list[dict]:
  """Prompts with their pictures, from the official file."""

  def picture(record: dict) -> bytes:
    return base64.b64decode(record['image'], validate=True)

  images = asked.records(path, picture, what='Object HalBench')
  return [
    {**row, 'image': image}
    for row, image in zip(_rows(path), images, strict=True)
  ]


def _rows(path: str | Path) -> list[dict]:
  """Id and question of each record: the picture's id, which may come twice."""

  def make(record: dict) -> dict:
    question = asked.first(record, 'question', 'prompt')
    return {'id': str(record['image_id']), 'question': question}

  rows = asked.records(path, make, what='Object HalBench')
  ids = asked.unique(row['id'] for row in rows)
  return [{**row, 'id': i} for i, row in zip(ids, rows, strict=True)]


def plain(answer: str) -> str:
  """The answer without the role that some models write into it."""
  return answer.replace('Assistant:', '').strip()


def prompts(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  prompt: str | Path | None = None,
) -> list[dict]:
  """One request an answer, to list what it names; none for a few words."""
  rows = _rows(path)
  texts = asked.texts(answers, [row['id'] for row in rows], path)
  asks = template('objhal', prompt)
  return [
    request(
      row['id'], '',
      system=fill(asks, question=row['question'], answer=plain(text)), **JUDGE,
    )
    for row, text in zip(rows, texts, strict=True)
    if len(plain(text).split()) > FEW
  ]  # fmt: skip


def score(
  answers: Sequence[Mapping[str, Any]],
  path: str | Path,
  *,
  truth: str | Path,
  lexicon: Lexicon | str | Path | None = None,
  strict: bool = True,
  replies: Mapping[str, str] | None = None,
  extractions: Mapping[str, Sequence[str]] | None = None,
  analyse: Callable[[str], extraction.Analysis] | None = None,
  judge: str = '',
  repeats: int = 1000,
  seed: int = 0,
) -> dict:
  """Resp. (`hallucination`), Mention (`mention`), recall (`coverage`), lengths.

  `truth` is COCO's annotation folder or the file that coco.extract makes of it.
  An answer that the judge left out or whose reply cannot be read counts in no
  rate; `unjudged` and `unparsed` say how many there are.
  """
  words = load(lexicon, strict=strict)
  rows = _rows(path)
  ids = [row['id'] for row in rows]
  texts = [plain(text) for text in asked.texts(answers, ids, path)]
  images = [i.partition('#')[0] for i in ids]
  known = coco.pictures(truth, images)
  truths = [coco.truth(known[i], words) for i in images]
  trouble: manner.Columns = {}
  if replies is None and extractions is None:
    found = [find(text, words) for text in texts]
  else:
    lists, trouble = _lists(ids, texts, replies, extractions, strict)
    found = [
      None if names is None else extraction.mentions(names, words, analyse)
      for names in lists
    ]
  columns = _columns(found, truths)
  return tally.result(
    'objhal',
    ids,
    {**columns, **trouble, **manner.columns(texts)},
    settings={
      'lexicon': words.name, 'strict': strict, 'judge': judge,
      'extraction': 'judge' if replies is not None else
                    'lexical' if extractions is None else 'stored',
    },
    found=[
      chair.details(named, there) if named is not None else {}
      for named, there in zip(found, truths, strict=True)
    ],
    official=_official(columns, texts),
    repeats=repeats,
    seed=seed,
  )  # fmt: skip


def _lists(
  ids: Sequence[str],
  texts: Sequence[str],
  replies: Mapping[str, str] | None,
  extractions: Mapping[str, Sequence[str]] | None,
  strict: bool,
) -> tuple[list[Sequence[str] | None], manner.Columns]:
  """What each answer names, None where that is not known; and why not."""
  given = matched(extractions if replies is None else replies, ids)
  long = [len(text.split()) > FEW for text in texts]
  gone = [g is None and n for g, n in zip(given, long, strict=True)]
  read = lambda g: (
    g if g is None or replies is None else extraction.listed(g, strict=strict)
  )
  lists = [read(g) if n else [] for g, n in zip(given, long, strict=True)]
  unread = [
    names is None and not g for names, g in zip(lists, gone, strict=True)
  ]
  return lists, {'unjudged': (gone, long), 'unparsed': (unread, long)}


def _columns(
  found: Sequence[Sequence[Mention] | None], truths: Sequence[set[str]]
) -> manner.Columns:
  """CHAIR's counts; an answer of which nothing is known adds nothing."""
  columns = coco.columns(
    [[mention.object for mention in named or ()] for named in found], truths
  )
  known = [named is not None for named in found]
  return {
    name: tuple(
      [x * k for x, k in zip(side, known, strict=True)] for side in sides
    )
    for name, sides in columns.items()
  }


def _official(columns: manner.Columns, texts: Sequence[str]) -> dict:
  """What the released script and its summary print, unrounded."""
  share = lambda name: coco.shares(columns, name)
  resp, mention = share('hallucination'), share('mention')
  recall, said = share('coverage'), sum(columns['hallucination'][1])
  words = sum(len(text.split(' ')) for text in texts)
  return {
    'CHAIRs': share('hallucination/all'),
    'CHAIRs_refine': resp,
    'CHAIRi': mention,
    'obj_rec': recall,
    'sentence_num': sum(columns['hallucination/all'][1]),
    'coco_sentence_num': said,
    'coco_word_count': sum(columns['coverage'][0]),
    'gt_word_count': sum(columns['coverage'][1]),
    'avg_word_len': words / len(texts),
    'correct_rate': 1 - resp,
    'object_correct_rate': 1 - mention,
    'obj_f1': _harmonic(100 * recall, 100 * (1 - mention)),
    'res_f1': _harmonic(said / 3, 100 * (1 - resp)),  # 300 answers are assumed
  }


def _harmonic(a: float, b: float) -> float:
  return 2 * a * b / (a + b) if a + b else 0.0
