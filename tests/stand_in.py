"""A command on PATH that keeps what it was asked and says what it was told."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Replies by word: the last one stays; a word that is not there is fine.
SCRIPT = """#!{python}
import json, sys
from pathlib import Path
here, args = Path({folder!r}), sys.argv[1:]
given = sys.stdin.read() if '--filename=-' in args else ''
with open(here / 'calls.jsonl', 'a') as f:
  print(json.dumps(args + [given] if given else args), file=f)
replies = json.loads((here / 'replies.json').read_text())
for word, left in replies.items():
  if any(word in arg for arg in args):
    code, text = left[0]
    replies[word] = left[1:] or left
    (here / 'replies.json').write_text(json.dumps(replies))
    print(text, file=sys.stderr if code else sys.stdout)
    sys.exit(code)
"""


class StandIn:
  """`name` in a folder that comes first on PATH."""

  def __init__(self, folder: Path, name: str, **replies):
    self.folder = folder
    (folder / 'replies.json').write_text(json.dumps(replies))
    command = folder / name
    command.write_text(SCRIPT.format(python=sys.executable, folder=str(folder)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)

  def run(self, *command: str) -> subprocess.CompletedProcess:
    path = f'{self.folder}:{os.environ["PATH"]}'
    return subprocess.run(
      command, cwd=ROOT, env=os.environ | {'PATH': path}, text=True,
      capture_output=True, timeout=120, check=False,
    )  # fmt: skip

  @property
  def calls(self) -> list[list[str]]:
    path = self.folder / 'calls.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]

  def words(self, *known: str) -> list[str]:
    """The calls in order, each by the first of these words that it has."""
    return [
      next((w for w in known if any(w in arg for arg in call)), '?')
      for call in self.calls
    ]
