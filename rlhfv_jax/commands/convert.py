"""convert: weights of Hugging Face, Muffin and LLaVA in; ours out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import jax

from rlhfv_jax import files, hosts, process, sharding
from rlhfv_jax.convert import export, export_weights, hub, load, words, workdir
from rlhfv_jax.convert.plan import Source, plan
from rlhfv_jax.hosts.join import joined
from rlhfv_jax.models.presets import PRESETS, preset

_IMPORT = """\
Reads the weights of a released model into WORKDIR, where a training begins:

  convert import --from=openbmb/RLHF-V --model=rlhfv_13b --to=rlhfv
  convert import --from=VICUNA --from=CLIP --model=llava15_7b --to=llava \\
      --fresh='mm_projector.*'

Every tensor must have its place: a name that is missing or unknown, or a shape
that is not the model's, is an error that says so before anything is read. Where
one host cannot hold the model, all run this with RLHFV_DISTRIBUTED=1: each
keeps its part.
"""
_EXPORT = """\
Writes the model of an import or of a run for others to read:

  convert export --from=runs/ddpo-llava15_7b --to=out
  convert export --from=runs/ddpo-llava15_7b --to=out --format=peft

hf is transformers' LLaVA, adapters merged in; muffin has the names of the
original; peft is the adapters alone, for their base on the hub.
"""


def main(argv: list[str]) -> None:
  arguments = _parser().parse_args(argv)
  process.keep_memory()
  how = os.environ.get('RLHFV_DISTRIBUTED', '')
  with joined(how, expected=(ValueError, OSError)):
    arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser('python -m rlhfv_jax convert')
  commands = parser.add_subparsers(required=True, metavar='import|export')

  def command(name, run, description):
    made = commands.add_parser(
      name,
      description=description,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made

  come = command('import', _import, _IMPORT)
  come.add_argument(
    '--from',
    required=True,
    action='append',
    dest='sources',
    metavar='DIR_OR_HUB_ID',
    help='ORG/NAME[/SUBFOLDER] on the '
    'hub, or a folder; several that together make the model',
  )
  come.add_argument(
    '--model',
    required=True,
    metavar='PRESET',
    help=f'{", ".join(PRESETS)}, or a FILE.json with the numbers of a model',
  )
  come.add_argument('--to', required=True, type=Path, metavar='WORKDIR')
  come.add_argument('--revision', help='of the hub: a branch, tag or commit')
  come.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    help='of the parameters; as in the files unless given',
  )
  come.add_argument(
    '--fresh',
    action='append',
    default=[],
    metavar='REGEX',
    help='parameters that may be missing, and are drawn',
  )
  come.add_argument('--mesh', default='1,-1,1', help='data, fsdp, tensor')

  go = command('export', _export, _EXPORT)
  go.add_argument(
    '--from', required=True, type=Path, dest='source', metavar='WORKDIR'
  )
  go.add_argument('--to', required=True, type=Path, metavar='DIR')
  go.add_argument('--format', choices=export.FORMATS, default='hf')
  go.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    help='of the weights; as they are unless given',
  )
  go.add_argument('--base', help='ORG/NAME of what it was trained from')
  go.add_argument(
    '--data',
    action='append',
    default=[],
    metavar='NAME',
    help='what it was trained on, for the card',
  )
  go.add_argument('--licence', default='', help='of the whole, for the card')
  go.add_argument('--mesh', default='1,-1,1', help='data, fsdp, tensor')
  return parser


def _import(a: argparse.Namespace) -> None:
  described = _described(a.model)
  if a.revision and not any(hub.is_id(source) for source in a.sources):
    raise ValueError(
      f'--revision={a.revision} is of a repository on the hub, and '
      f'{", ".join(a.sources)} is on disk: leave it out'
    )
  folders = [hub.fetch(s, revision=a.revision) for s in a.sources]
  made = plan(folders, described['model'], dtype=a.dtype, fresh=a.fresh)
  about = workdir.About(
    model=described['model'],
    template=described.get('template', 'vicuna_v1'),
    policy=described.get('image', {}).get('policy', 'pad'),
    preset='' if a.model.endswith('.json') else a.model,
    dtype=a.dtype or '',
    sources=[
      {'from': source, 'revision': hub.commit(folder), 'format': s.match.format}
      for source, folder, s in zip(
        a.sources, folders, made.sources, strict=True
      )
    ],
  )
  if _done(a.to, about):
    print(f'{a.to} has it already')
    return
  begun = time.perf_counter()
  params = jax.block_until_ready(load.fill(made, _mesh(a.mesh)))
  seconds = time.perf_counter() - begun
  told = [s.folder for s in made.sources if _has_words(s)]
  workdir.write(a.to, params, about, sources=told)
  leaves = jax.tree.leaves(params)
  size = sum(x.nbytes for x in leaves)
  print(
    f'{a.to}: {sum(x.size for x in leaves):,} parameters, '
    f'{size / 1e9:.1f} GB, read in {seconds:.0f} s'
  )


def _has_words(source: Source) -> bool:
  """Whether a tokenizer beside it would be the decoder's; CLIP has its own."""
  return any(s.path == words.LEAVES[0] for s in source.match.slots.values())


def _export(a: argparse.Namespace) -> None:
  about = workdir.about(a.source)
  origin = about.base
  if a.format == 'peft':
    _check_adapters(a.source, about, a.base)
    origin = workdir.under(a.source)
  base = a.base or (origin if hub.is_id(origin) else '')
  export_weights(
    workdir.read(a.source, _mesh(a.mesh)), about.model, a.to,
    format=a.format, tokenizer=workdir.load_tokenizer(about.tokenizer),
    chat=about.template, policy=about.policy, base=base, preset=about.preset,
    data=a.data or about.data, licence=a.licence, dtype=a.dtype,
  )  # fmt: skip
  pieces = Path(about.tokenizer) / 'tokenizer.model'
  if a.format == 'muffin' and pieces.is_file() and hosts.leader():
    # The original's own code reads no other form of it.
    shutil.copyfile(pieces, a.to / pieces.name)
  print(f'{a.to}: see its README.md')


def _check_adapters(
  folder: Path, about: workdir.About, base: str | None
) -> None:
  """Do adapters alone say all that was trained, on what others can load?"""
  if left_out := workdir.beside(folder):
    raise ValueError(
      f'{folder} trained {left_out[0]} beside its adapters, which files of '
      'adapters have no place for: export with --format=hf'
    )
  tower = (about.model.get('vision') or {}).get('kind')
  wanted = {'clip': 'hf', 'beit3': 'muffin'}.get(tower, 'llama')
  format = about.sources[0].get('format', wanted) if about.sources else wanted
  if not base and not format.startswith(wanted):
    raise ValueError(
      f'{about.base} was imported in format {format!r}, and PEFT puts these '
      f'adapters on one in {wanted!r}: give the same weights in that as '
      '--base=ORG/NAME (of LLaVA-1.5 they are llava-hf/llava-1.5-7b-hf and '
      '-13b-hf), or export what the adapters are on, and upload it'
    )


def _described(name: str) -> dict[str, Any]:
  """A preset, or what a file says: a model's numbers, or all of a preset."""
  if not name.endswith('.json'):
    return preset(name)
  found = files.read_json(name)
  return found if 'model' in found else {'model': found}


def _done(folder: Path, about: workdir.About) -> bool:
  """Whether the same was imported there; something else is an error."""
  if not (folder / workdir.NOTE).exists():
    return False
  have = files.read_json(folder / workdir.NOTE)
  want = json.loads(json.dumps(dataclasses.asdict(about)))
  for key in want.keys() - {'tokenizer'}:
    if have.get(key) != want[key]:
      raise ValueError(
        f'{folder} holds another import, with {key} = {have.get(key)} and not '
        f'{want[key]}: give this one a folder of its own'
      )
  return True


def _mesh(text: str) -> jax.sharding.Mesh:
  try:
    shape = [int(n) for n in text.split(',')]
  except ValueError:
    raise ValueError(f'--mesh={text}: three numbers as in 1,-1,1') from None
  return sharding.make_mesh(shape)
