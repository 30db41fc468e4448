"""Places: a path here, in a bucket, or in a data set of the hub.

hf://datasets/OWNER/NAME@REVISION[/PATH]   downloaded once, by huggingface_hub
gs://BUCKET/PATH, s3://BUCKET/PATH         read where it is, through etils
"""

import hashlib
import re
from pathlib import Path

from etils import epath

from rlhfv_jax import files
from rlhfv_jax.data.storage import regroup

_HUB = re.compile(
  r'hf://datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?'
)


def here(path: str | Path) -> str:
  """The path itself, or where the hub's files are on this machine."""
  path = str(path)
  if not path.startswith('hf://'):
    return path
  found = _HUB.fullmatch(path)
  if not found:
    raise ValueError(f'{path}: say hf://datasets/OWNER/NAME@REVISION[/PATH]')
  if not found['revision']:
    raise ValueError(
      f'{path}: no revision, so it may be other data tomorrow: write '
      f'hf://datasets/{found["repo"]}@REVISION with a commit, or @main'
    )
  inside = (found['path'] or '').strip('/')
  from huggingface_hub import snapshot_download  # a second to import

  try:
    folder = snapshot_download(
      found['repo'],
      repo_type='dataset',
      revision=found['revision'],
      allow_patterns=[inside, f'{inside}/*'] if inside else None,
    )
  except Exception as error:  # whatever a network leads to
    raise ValueError(
      f'{path}: not to be had from the hub ({type(error).__name__}: '
      f'{" ".join(str(error).split())[:200]})'
    ) from error
  return str(Path(folder) / inside)


def local(path: str | Path) -> Path:
  """As `here`, for readers of files that have to be on this machine."""
  path = here(path)
  if '://' in path:
    raise ValueError(
      f'{path}: only jsonl and parquet files are read from a bucket: copy it '
      'to this machine'
    )
  return Path(path)


def file(path: str | Path) -> Path:
  """A file that can be mapped: itself, or its copy from a bucket."""
  if '://' not in str(path):
    return Path(path)
  there = epath.Path(path)
  try:
    stat = there.stat()
    named = f'{there} {stat.length} {stat.mtime}'.encode()
    key = hashlib.blake2b(named, digest_size=8).hexdigest()
    copy = regroup.cache() / 'files' / key / there.name
    if not copy.exists():
      files.write_bytes(copy, there.read_bytes())
  except (ImportError, OSError) as error:
    raise ValueError(f'{path}: cannot be read ({error})') from error
  return copy
