"""Pages: what a browser opens. An item's is that of its mode."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response

from rlhfv_jax.annotate import labels, queue, review, visit, ways
from rlhfv_jax.annotate.marks import Marks
from rlhfv_jax.annotate.store import Work
from rlhfv_jax.benchmarks.mhumaneval import TYPES
from rlhfv_jax.data.example import CATEGORIES


def home(request: Request) -> Response:
  """To what is next, by way of a name."""
  try:
    person = visit.who(request)
  except (HTTPException, ValueError):
    return who(request)
  found = queue.next_item(request.app.state.store, person)
  return visit.to(request, f'item/{found}' if found else 'progress')


def who(request: Request) -> Response:
  return request.app.state.page('who.html', root=visit.root(request))


def item(request: Request, number: int) -> Response:
  store, mode = request.app.state.store, request.app.state.settings.mode
  person, (example, picture) = visit.who(request), visit.item(request, number)
  work = store.work(number, person)
  shown = {
    'item': number,
    'draft': f'annotate:{request.app.state.name}:{number}:{person}',
    'version': work.version,
    'state': work.state,
    'done': review.done(store, person),
    'total': queue.count(store),
    'before': queue.neighbour(store, person, number, -1),
    'behind': queue.neighbour(store, person, number, 1),
    'seconds': (work.body or {}).get('seconds', 0),
    'keys': (work.body or {}).get('keys', 0),
  }
  shown |= _SHOWN[mode](request, example, work, number, person)
  return request.app.state.page(
    f'{mode}.html', person=person, example=example, picture=picture,
    shown=shown, root=visit.root(request),
  )  # fmt: skip


def _to_correct(
  request: Request, example: dict, work: Work, number: int, person: str
) -> dict[str, Any]:
  body, original = work.body or {}, example['answers'][-1]
  return {
    'original': original,
    'text': body.get('text', original),
    'marks': body.get('marks', Marks()._asdict()),
    'labels': CATEGORIES,
    'tokens': request.app.state.settings.tokens is not None,
    'suggested': visit.suggests(request, number, person),
  }


def _to_rank(
  request: Request, example: dict, work: Work, number: int, person: str
) -> dict[str, Any]:
  first = visit.first(number, person)
  return {'answers': example['answers'][:: 1 if first == 0 else -1]}


def _to_label(
  request: Request, example: dict, work: Work, number: int, person: str
) -> dict[str, Any]:
  return {
    'words': labels.words(example['answers'][-1]),
    'marked': (work.body or {}).get('marked', []),
    'labels': TYPES,
  }


def progress(request: Request) -> Response:
  store, settings = request.app.state.store, request.app.state.settings
  told = review.survey(store)
  return request.app.state.page(
    'progress.html', told=told, root=visit.root(request),
    workdir=settings.workdir,
    ways=ways.ways(settings.mode, settings.workdir, told['pairs']),
  )  # fmt: skip


def compare(request: Request, number: int) -> Response:
  """What several people made of one item; an adjudicator takes one."""
  store, mode = request.app.state.store, request.app.state.settings.mode
  if mode == 'rank':
    raise HTTPException(404, 'rankings have no edits to compare')
  person, (example, picture) = visit.who(request), visit.item(request, number)
  version = store.work(number, person).version
  return request.app.state.page(
    'compare.html', person=person, example=example, picture=picture,
    told=review.compared(store, number, example), root=visit.root(request),
    shown={'item': number, 'version': version, 'mode': mode},
  )  # fmt: skip


_SHOWN = {'correct': _to_correct, 'rank': _to_rank, 'label': _to_label}
