"""AMBER's descriptions: nouns held against what is there and what tempts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhfv_jax import files
from rlhfv_jax.benchmarks import lemmas
from rlhfv_jax.benchmarks.words import cut

ALIKE = 0.8  # words more similar than this mean the same


class Held(NamedTuple):
  """One description: its wrong nouns, and counts."""

  wrong: tuple[str, ...]
  nouns: int  # known ones, wrong or not
  covered: int  # of
  truths: int  # things that are there
  marked: int  # of
  traps: int  # things that are not, but might be expected


def holder(
  folder: Path,
  *,
  strict: bool,
  nouns: Callable[[str], Sequence[str]] | None,
  similarity: Callable[[str, str], float] | None,
) -> tuple[Callable[[str, Sequence[str], Sequence[str]], Held], dict[str, str]]:
  """A function of (text, truths, traps), and what it uses for words."""
  related = files.read_json(folder / 'relation.json')
  lines = (folder / 'safe_words.txt').read_text('utf-8').splitlines()
  safe = {line.strip() for line in lines}
  known = {word for key, words in related.items() for word in (key, *words)}
  find = nouns or own_nouns(known, strict=strict)
  like = functools.lru_cache(1 << 20)(similarity or _same)

  def held(text: str, truths: Sequence[str], traps: Sequence[str]) -> Held:
    found = [noun for noun in find(text) if noun in known]
    return hold(found, _words(truths, related), _words(traps, related), safe,
                like)  # fmt: skip

  name = lambda given: getattr(given, '__name__', 'given') if given else 'own'
  return held, {'nouns': name(nouns), 'similarity': name(similarity)}


def hold(
  nouns: Sequence[str],
  truths: tuple[list[str], list[int], int],
  traps: tuple[list[str], list[int], int],
  safe: set[str],
  like: Callable[[str, str], float],
) -> Held:
  """The original's walk through the known nouns of one description."""
  words, owners, n = truths
  trap_words, trap_owners, n_traps = traps
  covered, marked, wrong = set(), set(), []
  for noun in nouns:
    if noun in safe:
      continue
    if noun in words:
      covered.add(owners[words.index(noun)])
      continue
    if noun in trap_words:
      marked.add(trap_owners[trap_words.index(noun)])
    if (trap := _alike(noun, trap_words, like)) is not None:
      marked.add(trap_owners[trap])
    if (same := _alike(noun, words, like)) is not None:
      covered.add(owners[same])
    else:
      wrong.append(noun)
  return Held(tuple(wrong), len(nouns), len(covered), n, len(marked), n_traps)


def _alike(
  noun: str, words: Sequence[str], like: Callable[[str, str], float]
) -> int | None:
  return next((i for i, w in enumerate(words) if like(noun, w) > ALIKE), None)


def _same(one: str, other: str) -> float:
  return float(one == other)


def _words(
  things: Sequence[str], related: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[int], int]:
  """Words that mean a thing, related ones first, and which thing each means."""
  if missing := [thing for thing in things if thing not in related]:
    raise ValueError(
      f'relation.json lacks {missing[0]!r}, which annotations.json names'
    )
  pairs = [(word, i) for i, t in enumerate(things) for word in related[t]]
  pairs += [(thing, i) for i, thing in enumerate(things)]
  return [word for word, _ in pairs], [i for _, i in pairs], len(things)


def own_nouns(known: set[str], *, strict: bool) -> Callable[[str], list[str]]:
  """A tagger that knows no grammar: the known words of a text, as lemmas."""
  forms = (lemmas.wordnet_table if strict else lemmas.table)(known)

  def find(text: str) -> list[str]:
    words = (text[w.start : w.end] if strict else w.text for w in cut(text))
    return [forms.get(word, word) for word in words]

  return find
