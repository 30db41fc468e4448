"""Folders: pictures by name, here or in a bucket, and none from outside."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from etils import epath

from rlhfv_jax.data.example import RowError

Folder = epath.PathLike


def picture(folder: Folder, name: str) -> bytes:
  """The encoded picture of that name; a RowError where there is none."""
  path = inside(folder, name)
  try:
    return path.read_bytes()
  except OSError as error:
    raise RowError('no such picture', f'{path} ({type(error).__name__})') from (
      error
    )


def inside(folder: Folder, name: str) -> epath.Path:
  """The path of `name`, which may not lead out of the folder.

  As written: links in the folder are its owner's, and the hub's own cache is
  made of links.
  """
  if not isinstance(name, str) or not name:
    raise RowError('no such picture', f'its name is {name!r}')
  folder = epath.Path(folder)
  path = folder / name
  steps = PurePosixPath(name).parts
  if '..' in steps or '\0' in name or not path.is_relative_to(folder):
    raise RowError('picture outside the folder', f'{name!r} of {folder}')
  return path


def find(root: Folder, names: Sequence[str]) -> epath.Path:
  """The folder at or below root (by two) that holds one of the pictures.

  Of several, since the one that is asked for may be the one that is missing.
  """
  for folder in _below(epath.Path(root), 2):
    if any(_holds(folder, name) for name in names):
      return folder
  raise ValueError(
    f'{root}: no picture {", ".join(map(repr, names[:3]))} here or in a folder '
    'below: say where the pictures are, with images=FOLDER'
  )


def _holds(folder: epath.Path, name: str) -> bool:
  try:
    return inside(folder, name).exists()
  except RowError:  # for whoever reads that row
    return False


def _below(root: epath.Path, depth: int) -> Iterator[epath.Path]:
  """Breadth first. What has a suffix is taken for a file unasked."""
  yield root
  level = [root]
  for _ in range(depth):
    level = [
      entry
      for folder in level
      for entry in sorted(folder.iterdir())
      if not entry.suffix and entry.is_dir()
    ]
    yield from level
