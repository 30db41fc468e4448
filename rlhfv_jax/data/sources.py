"""Sources: examples from wherever people keep them, by one line: 'kind:path'.

A path without a kind is our own parquet. A kind is a module of `data/formats`
with `read(path) -> Sequence[Example]` and, where people exchange data in it,
`write(path, examples)`.
"""

import difflib
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Sequence
from types import ModuleType

from rlhfv_jax.data import mixture
from rlhfv_jax.data.example import Example, to_dict
from rlhfv_jax.data.formats.examples import read as read
from rlhfv_jax.data.formats.examples import write as write
from rlhfv_jax.data.storage.lazy import Source as Source

KINDS = {
  'examples': 'our own parquet, which a path without a kind means too',
  'rlhfv': 'RLHF-V-Dataset: parquet, question and answers in one JSON text',
  'rlaifv': 'RLAIF-V-Dataset: parquet, question, chosen, rejected',
  'trl': 'TRL: images, prompt, chosen, rejected; parquet, or JSONL + pictures',
  'llamafactory': 'LLaMA-Factory: sharegpt with ranking, JSON + pictures',
  'swift': 'ms-swift: messages and rejected_response, JSONL + pictures',
  'muffin_tsv': "Muffin's TSV: seven columns, base64",
  'unimm': 'UniMM-Chat: instructions, JSON + pictures',
  'llava': "LLaVA's instructions and PPO's prompts, JSON + pictures",
  'llava_rlhf': "LLaVA-RLHF's preferences, JSON + pictures + captions",
  'vqav2': 'VQA v2: the official files; ?split=val&task=rounds',
  'aokvqa': 'A-OKVQA: multiple choice with reasons; ?task=choice',
  'flickr30k_entities': 'Flickr30k Entities: captions with boxes',
  'jsonl': 'plain JSONL + pictures, here, gs://... or hf://datasets/...',
  'tfds': 'any data set that TFDS has built; ?split=train',
  'playroom': 'the small world, drawn when asked for: SPLIT/TASK/N',
  'annotations': 'what people corrected or ranked in `annotate`: its folder',
}


def split(spec: str) -> tuple[str, str]:
  """'kind:path' -> (kind, path)."""
  spec = str(spec)
  kind, colon, path = spec.partition(':')
  if not colon or path.startswith('//') or not re.fullmatch(r'\w+', kind):
    return 'examples', spec
  if not path:
    raise ValueError(f'{spec!r}: no path after the kind, say {kind}:PATH')
  return kind, path


def module(kind: str) -> ModuleType:
  """The format of that name."""
  if kind not in KINDS:
    near = difflib.get_close_matches(kind, KINDS, 1, 0.5)
    meant = f'did you mean {near[0]!r}? ' if near else ''
    raise ValueError(
      f'no kind of data is called {kind!r}: {meant}There are '
      f'{", ".join(sorted(KINDS))}'
    )
  return importlib.import_module(f'rlhfv_jax.data.formats.{kind}')


def open(spec: str, **options) -> Sequence[Example]:
  """The examples at 'kind:path', or at a path in our own parquet.

  What `read` of the kind takes may stand behind the path: ?split=val&task=...
  Several of them are a mixture: 'A + B', or '3*A + 1*B' in shares.
  """
  shares = mixture.parse(str(spec))
  if len(shares) > 1:
    found = [open(part, **options) for _, part in shares]
    return mixture.mix(found, [share for share, _ in shares])
  kind, path = split(spec)
  path, told = asked(path)
  read, options = module(kind).read, told | options
  known = inspect.signature(read).parameters
  unknown = [name for name in options if name not in known]
  if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
    raise ValueError(
      f'{spec}: no option {unknown[0]!r} of {kind}: there are '
      f'{", ".join(list(known)[1:]) or "none"}'
    )
  return read(path, **options)


def asked(path: str) -> tuple[str, dict[str, str | int | bool]]:
  """'path?a=1&b=two' -> (path, {'a': 1, 'b': 'two'})."""
  plain, mark, options = path.partition('?')
  if not mark or not re.fullmatch(r'\w+=[^&]*(&\w+=[^&]*)*', options):
    return path, {}
  words = {'true': True, 'false': False}
  return plain, {
    name: int(value) if value.isdigit() else words.get(value, value)
    for name, _, value in (o.partition('=') for o in options.split('&'))
  }


def digest(spec: str) -> str:
  """Names the content: the same for equal examples, however they are stored."""
  total = hashlib.blake2b(digest_size=16)
  for example in open(spec):
    image = hashlib.blake2b(example.image or b'').hexdigest()
    told = to_dict(example) | {'image': image}
    total.update(json.dumps(told, sort_keys=True).encode())
  return total.hexdigest()
