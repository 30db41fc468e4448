"""A folder on disk, or a repository of Hugging Face fetched into one."""

import re
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
  parts = folder.parts
  return parts[parts.index('snapshots') + 1] if 'snapshots' in parts else None


def is_id(source: str) -> bool:
  """Whether others find this on the hub, as far as its spelling tells."""
  return bool(_ID.fullmatch(source)) and not Path(source).exists()


def _download(source, revision):
  import huggingface_hub as hub

  org, name, *below = source.split('/', 2)
  repository, inside = f'{org}/{name}', ''.join(f'{b}/' for b in below)
  try:
    every = hub.HfApi().list_repo_files(repository, revision=revision)
    every = [f.removeprefix(inside) for f in every if f.startswith(inside)]
    here = [s for s in _WEIGHTS if any(f.endswith(s) for f in every)]
    wanted = [*_BESIDE, *(f'*{s}' for s in here[:1])]
    root = hub.snapshot_download(
      repository,
      revision=revision,
      allow_patterns=[inside + pattern for pattern in wanted],
    )
  except Exception as error:  # whatever its HTTP library raises
    raise ValueError(
      f'{source}: no such folder here, and as a repository of the hub it '
      f'cannot be fetched ({str(error).strip().splitlines()[0]}): check the '
      'spelling and the revision, log in with `hf auth login` where a licence '
      'has to be accepted, or give the folder of a copy'
    ) from error
  return Path(root) / inside
