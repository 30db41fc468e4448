"""Benchmarks of a model: their questions answered, judged, scored.

Answers are kept a benchmark a file and the judge's replies by request, so each
stage goes on where it was stopped. results.json says with every number how it
came about.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfv_jax import evaluate, files
from rlhfv_jax.benchmarks import asked, leaks, runs
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat, sources
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.generate.decoding import Decoding
from rlhfv_jax.judge import Judge, ask, batch, export
from rlhfv_jax.judge.cache import Cache
from rlhfv_jax.report import comparison
from rlhfv_jax.report.results import VERSION
from rlhfv_jax.stages import choice, problem, provenance
from rlhfv_jax.stages.answering import answerer, greedy
from rlhfv_jax.stages.choice import Chosen
from rlhfv_jax.stages.problem import Setup, template, world


class Questions(Sequence):
  """A benchmark's questions as examples; pictures are read when asked for."""

  def __init__(self, questions: Sequence[Mapping[str, Any]]):
    self.questions = questions

  def __len__(self) -> int:
    return len(self.questions)

  def __getitem__(self, index: int) -> Example:
    q = self.questions[index]
    image, path = q.get('image'), str(q.get('image_path', ''))
    if image is None and path:
      image = _bytes(path)
    return Example(q['id'], image, (('user', q['question']),), image_path=path)


@functools.lru_cache(64)
def _bytes(path: str) -> bytes:
  """A picture: neighbouring questions are often about the same one."""
  return Path(path).read_bytes()


def decoding(s: Setup, of: Chosen) -> Decoding:
  """How this benchmark is answered: config.evaluate, but for its own limit."""
  names = [field.name for field in dataclasses.fields(Decoding)]
  c = s.config.evaluate
  given = {name: c[name] for name in names if name in c}
  given['max_new'] = of.options.get('max_new') or c.max_new
  return Decoding(**given, **chat.stops(s.tokenizer, template(s))._asdict())


def chosen(s: Setup) -> list[Chosen]:
  """The benchmarks that the config names, with all that they need."""
  if not s.config.init:
    raise ValueError(
      'say which model is measured: --config.init=FOLDER, of `convert import` '
      'or of a finished run'
    )
  if 'playroom' in choice.names(s.config) and not s.config.playroom.path:
    evaluate.prepare(
      s.folder / 'truth', world(s), s.config.evaluate.split,
      s.config.evaluate.scenes, seed=s.config.seed,
    )  # fmt: skip
  found = choice.read(s.config, s.folder)
  judged = [b.name for b in found if b.judged]
  if judged and judge_of(s) is None:
    raise ValueError(
      f'{", ".join(judged)}: scored by a judge, and none is named: give '
      'config.judge.model with config.judge.url, .batch or .cache'
    )
  return found


def answer(s: Setup) -> None:
  """Greedy answers to every question, or as config.evaluate says.

  The model is loaded when there is something to answer.
  """
  ready = None
  for b in chosen(s):
    path = said_path(s.folder, b)
    asks = b.questions()
    if s.model.config.image_tokens and not any(map(choice.shown, asks)):
      raise ValueError(
        f'{b.name}: none of {len(asks)} questions has a picture: say where '
        f'they are, config.{b.name}.images'
      )
    if [r['id'] for r in files.read_lines(path)] != [q['id'] for q in asks]:
      ready = ready or answerer(
        s, problem.base(s), greedy(s), s.config.evaluate.batch
      )
      ready(Questions(asks), path=path, name=b.name, decoding=decoding(s, b))


def said_path(folder: Path, of: Chosen) -> Path:
  return folder / 'answers' / f'{of.asks}.jsonl'


def score(s: Setup) -> None:
  """results.json: every benchmark's numbers, and how they came about."""
  path = s.folder / 'results.json'
  if path.exists():
    return
  found = chosen(s)
  said = {b.name: said_of(s, b) for b in found}
  for b in found:
    if told := b.hand_out(said[b.name], s.folder):
      print(told, file=sys.stderr)
  found = [b for b in found if b.can_score]
  judge = judge_of(s)
  if judge and s.config.judge.batch:
    _hand_in(s, found, said, judge)
  leaked = leaks_of(s, found)
  results = {}
  for b in found:
    result = scored(s, b, said[b.name], judge if b.judged else None)
    if hits := leaked.get(b.name):
      ids = [hit['id'] for hit in hits]
      result['warnings'].append(
        f'{len(hits)} of {len(result["answers"])} questions have a picture '
        f'that was trained on: {asked.some(ids)}'
      )
    results[b.name] = {**result, 'leaks': hits or []}
  made = {
    'version': VERSION,
    'run': provenance.ran(s.config) | {'model': s.config.init},
    'prompt': s.config.chat.template,
  }
  files.write_json(path, made | {'benchmarks': results})


def said_of(s: Setup, of: Chosen) -> list[dict]:
  path = said_path(s.folder, of)
  if not path.exists():
    raise ValueError(f'{path}: no answers: config.stages has no answer')
  return asked.read_answers(path)


def scored(
  s: Setup, of: Chosen, said: list[dict], judge: Judge | None
) -> dict[str, Any]:
  """The result of one benchmark, over several runs of the judge if asked."""
  told: dict[str, Any] | str = of.unjudged
  if judge is None:
    result = of.score(said)
  else:
    requests = of.requests(said, s.config.judge.prompts)
    each, warnings, told = [], [], about(judge, requests)
    for run in range(s.config.judge.runs):
      name = f'{of.name}, run {run + 1}' if s.config.judge.runs > 1 else of.name
      heard = ask(requests, judge, run=run, name=name)
      each.append(of.score(said, replies=heard.replies, judge=judge.model))
      warnings += [f'{name}: {w}' for w in heard.warnings(judge.model)]
      told['served'].append(heard.served)
      told['left out'].append(heard.trouble)
    result = runs.average(each) if len(each) > 1 else each[0]
    result = {**result, 'warnings': [*result['warnings'], *warnings]}
  return {
    **result,
    'n': len(said),
    'decoding': {
      k: v for k, v in vars(decoding(s, of)).items() if k != 'spelled'
    },
    'judge': told,
    'data': of.data(),
  }


def about(judge: Judge, requests: Sequence[Mapping]) -> dict[str, Any]:
  """What results.json says of a judge."""
  return {
    'model': judge.model,
    'url': judge.url,
    'requests': len(requests),
    'prompts': provenance.digest(requests),
    'served': [],
    'left out': [],
  }


def judge_of(s: Setup) -> Judge | None:
  """The judge that the config names, if it names one."""
  c = s.config.judge.to_dict()
  if not c['model']:
    return None
  try:
    c['options'] = json.loads(c['options'] or '{}')
  except json.JSONDecodeError as error:
    raise ValueError(
      f'config.judge.options = {c["options"]}: not JSON ({error}), as '
      '{"max_tokens": 512}'
    ) from error
  if c['runs'] < 1:
    raise ValueError(f'config.judge.runs cannot be {c["runs"]}')
  c['cache'] = Path(c['cache'] or s.folder / 'judge')
  names = [field.name for field in dataclasses.fields(Judge)]
  return Judge(**{name: c[name] for name in names})


def _hand_in(
  s: Setup, found: Sequence[Chosen], said: Mapping[str, list], judge: Judge
) -> None:
  """Takes replies from the batch folder; writes and stops for what is left."""
  folder = Path(s.config.judge.batch)
  _, failed = batch.collect(folder, Cache(judge.cache))
  left = []
  for b in found:
    if b.judged:
      requests = b.requests(said[b.name], s.config.judge.prompts)
      for run in range(s.config.judge.runs):
        path = folder / f'requests-{b.name}-{run}.jsonl'
        path.unlink(missing_ok=True)
        left += export(requests, judge, path, run=run)
  if left:
    told = f'; {len(failed)} replies there failed' if failed else ''
    raise ValueError(
      f'the judge has not replied to all yet{told}: hand in '
      f'{", ".join(map(str, left))}, put what comes back into {folder} as '
      '*.jsonl and run this again'
    )


def leaks_of(s: Setup, found: Sequence[Chosen]) -> dict[str, list[dict]]:
  """By benchmark, the questions whose picture the model was trained on."""
  trained = s.config.trained or _trained(s.config.init)
  if not trained:
    return {}
  pictures = [
    {**q, 'id': f'{b.name}\n{q["id"]}'} for b in found for q in b.questions()
  ]
  hits: dict[str, list[dict]] = {}
  for hit in leaks.leaks(pictures, _pictures(trained)):
    name, _, id = hit['id'].partition('\n')
    hits.setdefault(name, []).append({**hit, 'id': id})
  return hits


def _trained(init: str) -> str:
  """The data of the run that made the weights, if it was anybody's."""
  data = workdir.about(Path(init)).data if init else ()
  return next((spec for spec in data if spec != 'playroom'), '')


def _pictures(spec: str) -> Iterator[dict]:
  source = sources.open(spec)
  for row in range(len(source)):
    try:
      example = source[row]
    except RowError:
      continue
    yield {'id': example.id, 'image': example.image,
           'image_path': example.image_path}  # fmt: skip


def show(s: Setup) -> None:
  """The tables of all benchmarks, and their page."""
  comparison.tell([s.folder / 'results.json'], s.folder / 'report.html')
