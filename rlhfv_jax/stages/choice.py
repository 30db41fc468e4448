"""Which benchmarks a config names, and where their files are."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rlhfv_jax.benchmarks import NAMES, mhumaneval_sheet, objhal

# Where a file is looked for below config.files; {} is the benchmark.
PLACES = {
  'path': ('{}', '{}.json', '{}.jsonl'),
  'images': ('{}/images', 'images'),
  'truth': ('coco', 'coco.jsonl'),
  'annotations': ('{}-annotations.json',),
}
# What looks again at the answers to another's questions.
ASKS = {'overgeneralization': 'objhal'}
# Nobody but a judge can tell.
JUDGED = ('mmhal', 'llava_bench')


@dataclasses.dataclass(frozen=True)
class Chosen:
  """A benchmark with what the config says of it."""

  name: str
  options: Mapping[str, Any]  # without what is empty
  judged: bool

  @property
  def module(self) -> ModuleType:
    return importlib.import_module(f'rlhfv_jax.benchmarks.{self.name}')

  @property
  def asks(self) -> str:
    """Whose questions these are."""
    return ASKS.get(self.name, self.name)

  @property
  def path(self) -> Path:
    return self.options['path']

  @property
  def can_score(self) -> bool:
    """Whether all is there that its score needs."""
    given = inspect.signature(self.module.score).parameters.values()
    needed = [p.name for p in given if p.default is p.empty
              and p.kind is p.KEYWORD_ONLY]  # fmt: skip
    return set(needed) <= set(self.options)

  @property
  def unjudged(self) -> str:
    return 'the scenes' if self.name == 'playroom' else 'none'

  def questions(self) -> list[dict]:
    return _call(self.module.questions, self.options)(self.path)

  def requests(self, said: list[dict], prompts: str = '') -> list[dict]:
    """What the judge is asked, by our prompt or that of a folder."""
    make = getattr(self.module, 'prompts', objhal.prompts)
    own = Path(prompts) / f'{self.asks}.txt'
    prompt = own if prompts and own.is_file() else None
    return make(said, self.path, prompt=prompt)

  def score(self, said: list[dict], **judged: Any) -> dict:
    return _call(self.module.score, self.options)(said, self.path, **judged)

  def hand_out(self, said: list[dict], folder: Path) -> str:
    """What others need to score this: a sheet for people, a file for EvalAI."""
    if self.can_score:
      return ''
    if self.name == 'mhumaneval':
      out = folder / 'mhumaneval.html'
      images = self.options.get('images')
      n = mhumaneval_sheet.export({'': said}, self.path, out, images=images)
      return (
        f'mhumaneval: {n} answers to label are in {out}: open it, and give '
        'what it saves as config.mhumaneval.labels'
      )
    out = folder / 'vqa-evalai.json'
    self.module.evalai(said, self.path, out)
    return (
      f'vqa: {out} is for EvalAI; with config.vqa.annotations it is scored here'
    )

  def data(self) -> dict[str, Any]:
    """The files behind the numbers, each with its hash."""
    files = {k: self.options[k] for k in PLACES if k in self.options}
    return {
      name: {'path': str(path)}
      | ({} if name == 'images' else {'hash': _hash(path)})
      for name, path in files.items()
    }


def names(config: Mapping[str, Any]) -> list[str]:
  """The benchmarks by name, in the order of the config."""
  found = [name.strip() for name in config['benchmarks'].split(',')]
  found = list(dict.fromkeys(filter(None, found)))
  for name in found:
    if name not in NAMES:
      near = difflib.get_close_matches(name, NAMES, 1, 0.4)
      meant = f'did you mean {near[0]}? ' if near else ''
      raise ValueError(
        f'config.benchmarks: no benchmark {name!r}: {meant}There are '
        f'{", ".join(NAMES)}'
      )
  if not found:
    raise ValueError('config.benchmarks is empty: name some, as objhal,pope')
  return found


def read(config: Mapping[str, Any], folder: Path) -> list[Chosen]:
  """The benchmarks; every file that is missing is told at once."""
  found = [_read(config, folder, name) for name in names(config)]
  missing, where = [], config['files']
  for b in found:
    for option in ('path', *(['truth'] if 'truth' in config[b.name] else [])):
      if option not in b.options:
        tried = ', '.join(p.format(b.asks) for p in PLACES[option])
        missing.append(
          f'config.{b.name}.{option} (nothing in {where} is {tried})'
        )
      elif not b.options[option].exists():
        missing.append(f'config.{b.name}.{option} = {b.options[option]}')
  if missing:
    raise ValueError(f'files are not there: {"; ".join(missing)}')
  return found


def _read(config: Mapping[str, Any], folder: Path, name: str) -> Chosen:
  options = dict(config[name])
  judged = options.pop('judged', name in JUDGED)
  if name == 'playroom':
    options['path'] = options['path'] or folder / 'truth'
  for option in PLACES:
    if option in options:
      options[option] = _place(config['files'], name, option, options[option])
  if 'labels' in options:
    options['labels'] = [p for p in options['labels'].split(',') if p]
  set_ = {k: v for k, v in options.items() if v not in ('', None, [])}
  named = bool(config['judge']['model']) or name in JUDGED
  return Chosen(name, set_, judged and named)


def _place(files: str, name: str, option: str, given: Any) -> Path | None:
  """The path that is given, or the first of its places where something is."""
  if given:
    return Path(given)
  name = ASKS.get(name, name)
  paths = (Path(files) / place.format(name) for place in PLACES[option])
  return next((path for path in paths if path.exists()), None)


def shown(question: Mapping[str, Any]) -> bool:
  """Whether a question has a picture."""
  return bool(question.get('image') or question.get('image_path'))


def _call(function: Callable, options: Mapping[str, Any]) -> Callable:
  """The function with those of the options that it takes."""
  takes = inspect.signature(function).parameters
  open_ = any(p.kind is p.VAR_KEYWORD for p in takes.values())
  own = {'path', 'max_new', 'images'} if open_ else {'path'}
  given = {
    k: v for k, v in options.items() if (open_ or k in takes) and k not in own
  }
  return lambda *args, **more: function(*args, **given, **more)


def _hash(path: Path) -> str:
  """Names the content of a file, or of the texts in a folder."""
  hashed = hashlib.blake2b(digest_size=8)
  texts = ('.json', '.jsonl', '.txt')
  inside = sorted(p for p in path.rglob('*') if p.suffix in texts)
  for file in inside if path.is_dir() else [path]:
    with open(file, 'rb') as f:
      while block := f.read(1 << 20):
        hashed.update(block)
  return hashed.hexdigest()
