"""The world in numbers: what captions get wrong before anything is learned.

python -m rlhfv_jax.playroom.census      the table of docs/design.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rlhfv_jax.playroom.annotator import FACT_STREAM, facts
from rlhfv_jax.playroom.claims import CATEGORIES, parse
from rlhfv_jax.playroom.dataset import captioned, scenes
from rlhfv_jax.playroom.scene import Scene, World, rng_of
from rlhfv_jax.playroom.truth import judge, left_out

SPLITS = ('train', 'unseen')
PER_GROUP = 4  # claims: a kind, a number, a colour, a place


def count(told: Iterable[tuple[Scene, str]]) -> dict[str, float]:
  """Means over scenes with a text about each."""
  n = Counter()
  for scene, text in told:
    verdicts = judge(scene, text)
    wrong = [claim.category for claim, true in verdicts if not true]
    known = facts(scene, rng_of(scene, FACT_STREAM))
    n['texts'] += 1
    n['groups'] += len(scene.groups)
    n['things'] += sum(group.number for group in scene.groups)
    n['words'] += len(text.split())
    n['claims'] += len(verdicts)
    n['false'] += bool(wrong)
    n['untold'] += len(left_out(scene, text))
    n['known'] += sum(len(parse(fact)) for fact in known)
    n.update(
      {f'false {category}': category in wrong for category in CATEGORIES}
    )
    n['false claims'] += len(wrong)
  texts, groups = n['texts'], n['groups']
  return {
    'kinds of things in a scene': groups / texts,
    'things in a scene': n['things'] / texts,
    'words of a caption': n['words'] / texts,
    'claims of a caption': n['claims'] / texts,
    'captions with a false claim, %': 100 * n['false'] / texts,
    **{f'... a false {category}, %': 100 * n[f'false {category}'] / texts
       for category in CATEGORIES},
    'false claims, %': 100 * n['false claims'] / n['claims'],
    'kinds that are mentioned, %': 100 * (1 - n['untold'] / groups),
    'true claims that facts tell, %': 100 * n['known'] / (PER_GROUP * groups),
  }  # fmt: skip


def table(n: int = 2000) -> str:
  """Markdown; a column a split."""
  world = World()
  found = [
    count((scene, captioned(scene, world)[1])
          for scene in scenes(world, split, n))
    for split in SPLITS
  ]  # fmt: skip
  lines = [f'| {n} captions | {" | ".join(SPLITS)} |', '|---|---|---|']
  for name in found[0]:
    cells = ' | '.join(f'{column[name]:.1f}' for column in found)
    lines.append(f'| {name} | {cells} |')
  return '\n'.join(lines)


if __name__ == '__main__':
  print(table())
