"""The survey: one pass over the rows, of each of which it keeps a little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from rlhfv_jax.data import images
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.rows import Row
from rlhfv_jax.doctor import alike, exam, overlap, problems
from rlhfv_jax.doctor.exam import Measure
from rlhfv_jax.doctor.pictures import Look, look
from rlhfv_jax.doctor.problems import Case, Found

_AT_A_TIME = 64
# Shorter answers are alike by chance, as yes and no are.
_WORDS_TO_COMPARE = 8

Encode = Callable[[Example], Row]


class Record(NamedTuple):
  """What is kept of a row that could be read."""

  index: int
  id: str
  picture: str | None  # its digest
  asked: bytes  # digests of the turns and of each answer
  said: tuple[bytes, ...]
  measure: Measure | None  # None where it cannot be used
  categories: tuple[str, ...]  # of each corrected segment
  annotated: bool
  origin: str
  annotator: str
  model: str


@dataclass
class Survey:
  rows: int
  records: list[Record] = field(default_factory=list)
  found: list[Found] = field(default_factory=list)
  pictures: dict[str, Look] = field(default_factory=dict)
  # Of the preferred answers that are long enough: record number, signature.
  signed: list[tuple[int, np.ndarray]] = field(default_factory=list)

  @property
  def usable(self) -> list[Record]:
    return [record for record in self.records if record.measure is not None]


def survey(
  source: Sequence[Example],
  *,
  encode: Encode | None = None,
  held: overlap.HeldOut,
  threads: int,
) -> Survey:
  """Every row once. With `encode`, rows are measured in tokens, else words."""
  seen = Survey(len(source))
  bar = tqdm(total=len(source), desc='check', unit='row', dynamic_ncols=True)
  with ThreadPoolExecutor(threads) as pool, bar:
    for start in range(0, len(source), _AT_A_TIME):
      chunk = range(start, min(start + _AT_A_TIME, len(source)))
      read = [(i, each) for i in chunk if (each := _read(source, i, seen))]
      named = [images.digest(example.image or None) for _, example in read]
      fresh = {
        digest: example.image
        for digest, (_, example) in zip(named, read, strict=True)
        if digest and digest not in seen.pictures
      }
      looks = pool.map(look, fresh.values())
      # Texts are examined while the pictures are decoded.
      examined = [_examine(example, encode) for _, example in read]
      seen.pictures.update(zip(fresh, looks, strict=True))
      for (index, example), digest, examination in zip(
        read, named, examined, strict=True
      ):
        shown = seen.pictures.get(digest)
        examination.faults.extend(_seen(example, shown, digest, held))
        _keep(seen, index, example, digest, examination)
      bar.update(len(chunk))
  return seen


def _read(
  source: Sequence[Example], index: int, seen: Survey
) -> Example | None:
  try:
    return source[index]
  except (ValueError, OSError) as error:
    known = isinstance(error, RowError)
    kind = error.reason if known else 'unreadable row'
    detail = error.detail if known else str(error)
    seen.found.append((kind, Case(index, f'row {index}', detail)))
    return None


class _Examined(NamedTuple):
  faults: list[exam.Fault]
  spans: exam.Spans | None
  measure: Measure | None  # None where the texts have an error


def _examine(example: Example, encode: Encode | None) -> _Examined:
  """Spans are found once: the encoder is told them."""
  spans = exam.corrections(example)
  faults = exam.faults(example, spans)
  if _broken(faults):
    return _Examined(faults, spans, None)
  if encode is None:
    return _Examined(faults, spans, exam.in_words(example, spans))
  try:
    row = encode(example if spans is None else replace(example, spans=spans))
  except RowError as error:
    return _Examined([*faults, (error.reason, error.detail)], spans, None)
  return _Examined(faults, spans, exam.in_tokens(row))


def _broken(faults: Sequence[exam.Fault]) -> bool:
  return any(problems.level(kind) == problems.ERROR for kind, _ in faults)


def _seen(
  example: Example,
  shown: Look | None,
  digest: str | None,
  held: overlap.HeldOut,
) -> Iterator[exam.Fault]:
  """The faults of a row's picture."""
  if shown is None:
    yield 'no picture', 'text alone'
  elif shown.fault:
    yield shown.fault
  files = [held.names[n] for n in overlap.names(example) if n in held.names]
  files += [held.digests[digest]] if digest in held.digests else []
  if files:
    name = example.image_path or example.id
    yield 'evaluation picture', f'{name} is in {files[0]}'
  elif suspected := overlap.suspect(example):
    yield 'perhaps an evaluation picture', suspected


def _keep(
  seen: Survey,
  index: int,
  example: Example,
  digest: str | None,
  examined: _Examined,
) -> None:
  faults, spans, measure = examined
  seen.found += [(kind, Case(index, example.id, what)) for kind, what in faults]
  if _broken(faults):
    spans = measure = None
  if example.answers and len(example.answers[0].split()) >= _WORDS_TO_COMPARE:
    signature = alike.signature(example.answers[0])
    seen.signed.append((len(seen.records), signature))
  seen.records.append(
    Record(
      index,
      example.id,
      digest,
      _digest(*(text for turn in example.turns for text in turn)),
      tuple(map(_digest, example.answers)),
      measure,
      _categories(spans),
      example.spans is not None,
      example.origin,
      example.annotator,
      example.model,
    )
  )


def _categories(spans: exam.Spans | None) -> tuple[str, ...]:
  """Of each segment, by the answer that has more of them; '' where unsaid."""
  if spans is None:
    return ()
  longer = max(spans, key=len)
  return tuple((span[2:] or ('',))[0] or '' for span in longer)


def _digest(*texts: str) -> bytes:
  told = '\0'.join(texts).encode('utf-8', 'surrogatepass')
  return hashlib.blake2b(told, digest_size=8).digest()
