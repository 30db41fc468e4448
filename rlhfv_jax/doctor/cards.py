"""The cards of a data check: rows to look at, their corrections marked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rlhfv_jax.data.example import CATEGORIES, Example
from rlhfv_jax.doctor import exam, problems
from rlhfv_jax.doctor.pictures import thumbnail
from rlhfv_jax.report.gallery import stretches

Fault = tuple[str, str]
_SPEAKERS = {'user': 'question', 'assistant': 'earlier'}


def card(index: int, example: Example, faults: Sequence[Fault]) -> str:
  """One row: its picture, what was asked, and what became of the answer."""
  picture = '<div class="none">no picture</div>'
  if example.image:
    shown = thumbnail(example.image)
    picture = '<div class="none">not decodable</div>'
    if shown:
      picture = f'<img src="{shown}" alt="picture of row {index}">'
  turns = ''.join(
    f'<p class="{_SPEAKERS.get(role, "earlier")}">{escape(said)}</p>'
    for role, said in example.turns
  )
  labels = {kind for kind, _ in faults} | _categories(example)
  found = ''.join(
    f'<li class="{problems.level(kind)}"><b>{escape(kind)}</b> {escape(what)}'
    '</li>'
    for kind, what in faults
  )
  return (
    f'<article class="card" id="row-{index}" '
    f'data-labels="{escape("|".join(sorted(labels)))}">{picture}<div>'
    f'<p class="where">{_where(index, example)}</p>{turns}{answers(example)}'
    f'{f"<ul>{found}</ul>" if found else ""}</div></article>'
  )


def _where(index: int, example: Example) -> str:
  told = [f'row {index}', example.id, example.image_path]
  told += [example.origin, example.model, example.annotator]
  return escape(' · '.join(dict.fromkeys(filter(None, told))))


def _categories(example: Example) -> set[str]:
  spans = example.spans or ()
  return {str(span[2]) for its in spans for span in its if span[2:] and span[2]}


def answers(example: Example) -> str:
  """A pair as one text where its corrections mend it, else as two."""
  if len(example.answers) != 2:
    return ''.join(f'<p>{escape(answer)}</p>' for answer in example.answers)
  chosen, rejected = example.answers
  spans = exam.corrections(example)
  if (text := merged(chosen, rejected, *spans)) is not None:
    return f'<p class="answer">{text}</p>'
  return (
    f'<dl><dt>chosen</dt><dd>{_marked(chosen, spans[0], "ins")}</dd>'
    f'<dt>rejected</dt><dd>{_marked(rejected, spans[1], "del")}</dd></dl>'
  )


def merged(
  chosen: str, rejected: str, chosen_spans: Sequence, rejected_spans: Sequence
) -> str | None:
  """The answer with what went and what came in its place.

  None where writing the chosen spans over the rejected ones, one for one, does
  not turn the one answer into the other.
  """
  news, olds = (sorted(s, key=_ends) for s in (chosen_spans, rejected_spans))
  if len(news) != len(olds):
    return None
  parts, at, old_at = [], 0, 0
  for new, old in zip(news, olds, strict=True):
    same = chosen[at : new[0]]
    if not at <= new[0] or same != rejected[old_at : old[0]]:
      return None
    name = str((new[2:] or old[2:] or ('',))[0] or '')
    went, came = rejected[old[0] : old[1]], chosen[new[0] : new[1]]
    parts += [escape(same), _edit(went, came, name)]
    at, old_at = new[1], old[1]
  if chosen[at:] != rejected[old_at:]:
    return None
  return ''.join([*parts, escape(chosen[at:])])


def _ends(span: Sequence) -> tuple:
  return tuple(span[:2])


def _edit(went: str, came: str, name: str) -> str:
  went = f'<del>{escape(went)}</del>' if went else ''
  came = f'<ins>{escape(came)}</ins>' if came else ''
  return f'<span class="edit {_look(name)}">{went}{came}{_label(name)}</span>'


def _marked(text: str, spans: Sequence, tag: str) -> str:
  parts = []
  for part, name in stretches(text, spans):
    part = escape(part)
    if name is not None:
      part = (
        f'<span class="edit {_look(name)}"><{tag}>{part}</{tag}>'
        f'{_label(name)}</span>'
      )
    parts.append(part)
  return ''.join(parts)


def _label(name: str) -> str:
  return f'<small>{escape(name)}</small>' if name else ''


def _look(name: str) -> str:
  """A colour a category; the name stands beside it for who sees none."""
  return f'c{CATEGORIES.index(name)}' if name in CATEGORIES else 'plain'
