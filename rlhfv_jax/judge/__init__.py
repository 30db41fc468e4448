"""The judge: requests out, replies back, each kept under what was asked.

A request is what `benchmarks.judging.request` makes. The endpoint is any that
speaks OpenAI's chat completions; without one, kept replies are played back.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhfv_jax.judge import batch, cost, reply
from rlhfv_jax.judge.cache import Cache, key

FEW = 3  # ids that an error names


@dataclasses.dataclass(frozen=True)
class Judge:
  """Who judges, where, and how patiently it is asked."""

  model: str
  cache: Path  # a folder of replies
  url: str = ''  # as https://api.openai.com/v1; empty: only kept replies
  key_env: str = 'OPENAI_API_KEY'  # the variable that holds the key
  # Over a benchmark's own options of the call; None leaves one out.
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  concurrency: int = 8
  retries: int = 6
  timeout: float = 120.0  # seconds for a whole reply
  backoff: float = 1.0  # seconds before the first retry, doubled for the next
  price_in: float = 0.0  # for a million tokens
  price_out: float = 0.0
  partial: bool = False  # go on without the requests that nobody answered

  def __post_init__(self):
    if not self.model:
      raise ValueError('no judge is named: give config.judge.model')
    if self.url and not self.url.startswith(('http://', 'https://')):
      raise ValueError(
        f'config.judge.url = {self.url}: want http://... or https://..., up to '
        'where /chat/completions follows'
      )
    for name, fine in (
      ('concurrency', self.concurrency >= 1),
      ('retries', self.retries >= 0),
      ('timeout', self.timeout > 0),
      ('backoff', self.backoff >= 0),
    ):
      if not fine:
        raise ValueError(f'config.judge.{name} cannot be {getattr(self, name)}')


class Said(NamedTuple):
  """What a judge said to the requests of a benchmark."""

  replies: dict[str, str]  # by id; what could not be used is not among them
  trouble: dict[str, str]  # id -> why it has no reply
  served: dict[str, int]  # the models that replied, by their own word
  other: list[str]  # ids of replies by another model than was asked

  def warnings(self, model: str) -> list[str]:
    """What whoever reads the numbers must know."""
    total, told = len(self.replies) + len(self.trouble), []
    for why, n in Counter(map(_kind, self.trouble.values())).items():
      ids = [i for i, reason in self.trouble.items() if _kind(reason) == why]
      told.append(f'{n} of {total} replies are left out, {why}: {_some(ids)}')
    if self.other:
      names = ', '.join(self.served)
      told.append(
        f'{len(self.other)} of {total} replies are by another judge than '
        f'{model}: {names} answered, as for {_some(self.other)}'
      )
    return told


def ask(
  requests: Sequence[Mapping[str, Any]],
  judge: Judge,
  *,
  run: int = 0,
  name: str = 'judge',
) -> Said:
  """A reply to each request, from the cache or from the endpoint.

  Every reply is kept when it comes, so who was stopped asks for the rest only.
  Requests that nobody answered are an error, unless `judge.partial`. Another
  `run` asks the same again.
  """
  cache = Cache(judge.cache)
  bodies = asked(requests, judge, run=run)
  missing = {k: body for k, body in bodies.values() if k not in cache}
  failed: dict[str, str] = {}
  if missing:
    have = sum(k in cache for k, _ in bodies.values())
    if not judge.url:
      raise ValueError(
        f'{name}: {judge.cache} has {have} of {len(bodies)} replies of '
        f'{judge.model}, and there is nobody to ask for the others: set '
        'config.judge.url, or config.judge.batch to ask in batch files'
      )
    told = cost.told(missing.values(), judge)
    print(f'{name}: {have} replies are kept; {told}', file=sys.stderr)
    failed = _fetch(missing, judge, cache, run, name)
  if failed and not judge.partial:
    ids = [i for i, (k, _) in bodies.items() if k in failed]
    raise ValueError(
      f'{name}: {len(ids)} of {len(bodies)} requests got no reply from '
      f'{judge.url}: {_some(ids)}; the first: {next(iter(failed.values()))}. '
      f'The others are kept in {judge.cache}: run again to ask for the rest, '
      'or set config.judge.partial to score without them'
    )
  return _said(bodies, cache, failed, judge.model)


def asked(
  requests: Sequence[Mapping[str, Any]], judge: Judge, *, run: int = 0
) -> dict[str, tuple[str, dict]]:
  """id -> (key, body): what is sent for each request, and its name."""
  found = {}
  for request in requests:
    options = {**request['options'], **judge.options}
    given = ((role, request[role]) for role in ('system', 'user'))
    body = {
      'model': judge.model,
      'messages': [{'role': r, 'content': text} for r, text in given if text],
      **{k: v for k, v in options.items() if v is not None},
    }
    found[request['id']] = key(body, run), body
  return found


def export(
  requests: Sequence[Mapping[str, Any]],
  judge: Judge,
  path: Path,
  *,
  run: int = 0,
) -> list[Path]:
  """Batch files of the requests that have no reply yet; none if all have."""
  cache = Cache(judge.cache)
  bodies = asked(requests, judge, run=run).values()
  return batch.write(path, {k: b for k, b in bodies if k not in cache})


def _fetch(
  bodies: Mapping[str, dict], judge: Judge, cache: Cache, run: int, name: str
) -> dict[str, str]:
  """Asks, keeps what comes, returns why the others did not."""
  try:
    from rlhfv_jax.judge import endpoint
  except ImportError as error:
    raise ValueError(
      'asking a judge needs httpx: pip install "rlhfv_jax[judge]"'
    ) from error
  failed = {}
  for k, given, why in endpoint.fetch(bodies, judge, name=name):
    if given is None:
      failed[k] = why
    else:
      cache.put(k, given, request=bodies[k], run=run, url=judge.url)
  return failed


def _said(
  bodies: Mapping[str, tuple[str, dict]],
  cache: Cache,
  failed: Mapping[str, str],
  model: str,
) -> Said:
  said = Said({}, {}, {}, [])
  for id, (k, _) in bodies.items():
    if k in failed:
      said.trouble[id] = f'no answer: {failed[k]}'
      continue
    text, trouble = reply.text(cache[k])
    name = str(cache[k].get('model') or 'nameless')
    said.served[name] = said.served.get(name, 0) + 1
    if not reply.same(model, name):
      said.other.append(id)
    if trouble:
      said.trouble[id] = trouble
    else:
      said.replies[id] = text
  return said


def _kind(reason: str) -> str:
  return reason.partition(':')[0]


def _some(ids: Sequence[str]) -> str:
  more = f' and {len(ids) - FEW} more' if len(ids) > FEW else ''
  return ', '.join(ids[:FEW]) + more
