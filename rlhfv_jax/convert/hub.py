"""A folder on disk, or a repository of Hugging Face fetched into one."""

import re
from fnmatch import fnmatch
from pathlib import Path

_ID = re.compile(r'\w[\w.-]*(/\w[\w.-]*){1,4}')
_BESIDE = ('*.json', '*.jinja', '*.model', '*.txt', 'reward_head')
_WEIGHTS = ('.safetensors', '.bin', '.pth')


def fetch(source: str | Path, *, revision: str | None = None) -> Path:
  """The folder that DIR or ORG/NAME[/SUBFOLDER] stands for.

  Of weights in two forms the safetensors are fetched; what was fetched before
  is not fetched again.
  """
  path = Path(source).expanduser()
  if path.exists():
    return path
  if not _ID.fullmatch(str(source)):
    raise ValueError(f'{source}: no such folder, and no ORG/NAME of the hub')
  return _download(str(source), revision)


def commit(folder: Path) -> str | None:
  """The revision of what was fetched; None for a folder of one's own."""
  found = re.search(r'/snapshots/([0-9a-f]{40})(?=/|$)', folder.as_posix())
  return found[1] if found else None


def is_id(source: str) -> bool:
  """Whether others find this on the hub, as far as its spelling tells."""
  return bool(_ID.fullmatch(source)) and not Path(source).exists()


def _download(source, revision):
  import huggingface_hub as hub

  org, name, *below = source.split('/', 2)
  repository, inside = f'{org}/{name}', ''.join(f'{b}/' for b in below)
  try:
    every = hub.HfApi().list_repo_files(repository, revision=revision)
    wanted = _wanted(every, inside)
    if not wanted:
      raise ValueError(_elsewhere(every, repository))
    root = hub.snapshot_download(
      repository, revision=revision, allow_patterns=wanted
    )
  except Exception as error:  # whatever its HTTP library raises
    raise ValueError(
      f'{source}: no such folder here, and as a repository of the hub it '
      f'cannot be fetched ({str(error).strip().splitlines()[0]}): check the '
      'spelling and the revision, log in with `hf auth login` where a licence '
      'has to be accepted, or give the folder of a copy'
    ) from error
  return Path(root) / inside


def _wanted(every, inside):
  """The weights in a folder of a repository in one form, and what is beside."""
  own = {f for f in every if f.rpartition('/')[0] == inside.rstrip('/')}
  for suffix in _WEIGHTS:
    if any(f.endswith(suffix) for f in own):
      patterns = (*_BESIDE, f'*{suffix}')
      return sorted(f for f in own if any(fnmatch(f, p) for p in patterns))
  return []


def _elsewhere(every, repository):
  homes = {f.rpartition('/')[0] for f in every if f.endswith(_WEIGHTS)}
  found = ', '.join(
    f'{repository}/{home}'.rstrip('/') for home in sorted(homes)
  )
  return f'no weights there, but in {found}' if homes else 'it has no weights'
