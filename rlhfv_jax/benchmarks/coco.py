"""What is in COCO's pictures, and mentions of objects held against it.

The truth of a picture is what annotators outlined in it and what the reference
captions name (Rohrbach et al. 2018, section 3). It is read from the official
annotation folder or from a small JSON-lines file that `extract` makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhfv_jax import files
from rlhfv_jax.benchmarks import asked
from rlhfv_jax.benchmarks.lexicon import Lexicon, mentions

SPLITS = ('val', 'train')


class Picture(NamedTuple):
  """What is known of one picture: category names, one an instance; captions."""

  objects: tuple[str, ...]
  captions: tuple[str, ...]
  file: str = ''


def pictures(
  path: str | Path, ids: Iterable[str] | None = None
) -> dict[str, Picture]:
  """Pictures by id, all of them or these; an id that is not there is named.

  `path` is a folder with instances_{val,train}2014.json and
  captions_{val,train}2014.json, or a file that `extract` wrote.
  """
  path = Path(path)
  wanted = None if ids is None else set(map(str, ids))
  found = _folder(path, wanted) if path.is_dir() else _extracted(path)
  if wanted is None:
    return found
  if missing := sorted(wanted - set(found)):
    raise ValueError(
      f'{path}: nothing is known of {len(missing)} of {len(wanted)} pictures: '
      f'{asked.some(missing)}'
    )
  return {i: found[i] for i in found if i in wanted}


def extract(
  folder: str | Path, path: str | Path, ids: Iterable[str] | None = None
) -> None:
  """The few lines of the official annotations that a benchmark needs."""
  rows = [
    {'image_id': i, **picture._asdict()}
    for i, picture in pictures(folder, ids).items()
  ]
  files.write_lines(path, rows)


def _extracted(path: Path) -> dict[str, Picture]:
  def make(record: dict) -> tuple[str, Picture]:
    name = str(asked.first(record, 'image_id', 'image'))
    file = str(record.get('file') or record.get('image') or '')
    return name, Picture(
      tuple(record['objects']), tuple(record.get('captions', ())), file
    )

  what = "COCO's truth: image_id, objects, captions"
  return dict(asked.records(path, make, what=what))


def _folder(path: Path, wanted: set[str] | None) -> dict[str, Picture]:
  found: dict[str, Picture] = {}
  for split in SPLITS:
    if wanted is not None and wanted <= set(found):
      break
    captions = path / f'captions_{split}2014.json'
    instances = path / f'instances_{split}2014.json'
    if not captions.exists() and not instances.exists() and split != SPLITS[0]:
      continue
    found |= _split(_read(captions), _read(instances), wanted)
  return found


def _read(path: Path) -> dict:
  if not path.exists():
    raise ValueError(
      f'{path} is not there: it is part of annotations_trainval2014.zip'
    )
  return json.loads(path.read_text('utf-8'))


def _split(
  captions: dict, instances: dict, wanted: set[str] | None
) -> dict[str, Picture]:
  names = {c['id']: c['name'] for c in instances['categories']}
  images = [*instances['images'], *captions['images']]
  kept = {
    str(image['id']): image.get('file_name', '')
    for image in images
    if wanted is None or str(image['id']) in wanted
  }
  objects: dict[str, list[str]] = {i: [] for i in kept}
  told: dict[str, list[str]] = {i: [] for i in kept}
  for row in instances['annotations']:
    if (i := str(row['image_id'])) in kept:
      objects[i].append(names[row['category_id']])
  for row in captions['annotations']:
    if (i := str(row['image_id'])) in kept:
      told[i].append(row['caption'])
  return {
    i: Picture(tuple(objects[i]), tuple(told[i]), file)
    for i, file in kept.items()
  }


def truth(picture: Picture, lexicon: Lexicon) -> set[str]:
  """The classes that are in a picture: outlined, or named in a caption."""
  unknown = sorted(set(picture.objects) - set(lexicon.classes))
  if unknown:
    raise ValueError(
      f'lexicon {lexicon.name} has no {asked.some(unknown)}, which COCO labels'
    )
  return {lexicon.classes[name] for name in picture.objects} | {
    mention.object
    for caption in picture.captions
    for mention in mentions(caption, lexicon)
  }


def columns(
  named: Sequence[Sequence[str]], truths: Sequence[set[str]]
) -> dict[str, tuple[list[float], list[float]]]:
  """CHAIR's counts of each answer, from the classes its mentions mean.

  `hallucination` over answers that mention anything, `hallucination/all` over
  all (CHAIRs), `mention` over mentions (CHAIRi), `coverage` over the classes
  in the picture, `mentions` an answer.
  """
  pairs = list(zip(named, truths, strict=True))
  wrong = [sum(n not in there for n in names) for names, there in pairs]
  said = [len(names) for names in named]
  some = [bool(n) for n in said]
  ones = [1] * len(said)
  return {
    'hallucination': ([bool(w) for w in wrong], some),
    'hallucination/all': ([bool(w) for w in wrong], ones),
    'mention': (wrong, said),
    'coverage': (
      [len(there & set(names)) for names, there in pairs],
      [len(there) for there in truths],
    ),
    'mentions': (said, ones),
  }


def shares(
  columns: Mapping[str, tuple[Sequence, Sequence]], name: str
) -> float:
  """sum / sum, as the originals divide; 0 where they would have crashed."""
  tops, bottoms = columns[name]
  return sum(tops) / sum(bottoms) if sum(bottoms) else 0.0
