"""LLaVA-Bench's official files, COCO or in the wild, as rows.

The folder has qa90_questions.jsonl, qa90_gpt4_answer.jsonl and
caps_boxes_coco2014_val_80.jsonl, or questions.jsonl, answers_gpt4.jsonl and
context.jsonl; rule.json, where it is there, tells the judge what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfv_jax.benchmarks import asked
from rlhfv_jax.benchmarks.judging import template

COCO = (
  'qa90_questions.jsonl', 'qa90_gpt4_answer.jsonl',
  'caps_boxes_coco2014_val_80.jsonl',
)  # fmt: skip
WILD = ('questions.jsonl', 'answers_gpt4.jsonl', 'context.jsonl')
RULES = ('rule.json', 'rule.jsonfile')


def read_rules(
  folder: str | Path, prompt: str | Path | None
) -> Mapping[str, dict]:
  """What the judge is told for each category: `prompt`, the folder's, or ours.

  A .txt file holds for all categories, a JSON file is written like rule.json.
  """
  folder = Path(folder)
  ours = {'default': {'prompt': template('llava_bench').strip(),
                      'role': 'Assistant'}}  # fmt: skip
  if prompt is None:
    prompt = next((folder / r for r in RULES if (folder / r).exists()), None)
  if prompt is None:
    return ours
  text = Path(prompt).read_text('utf-8')
  if Path(prompt).suffix == '.txt':
    return {'default': {'prompt': text.strip(), 'role': 'Assistant'}}
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f'{prompt}: not JSON ({error})') from error


def read(path: str | Path) -> list[dict]:
  """Questions with their context and GPT-4's answers, by question id."""
  folder = Path(path)
  names = next((n for n in (COCO, WILD) if (folder / n[0]).exists()), None)
  if names is None:
    raise ValueError(f'{folder}: neither {COCO[0]} nor {WILD[0]} is there')
  asks, references, contexts = (
    asked.records(folder / name, dict, what='LLaVA-Bench') for name in names
  )
  reference = {r['question_id']: r['text'] for r in references}
  context = {c['image']: _context(c) for c in contexts}
  wild = names is WILD
  rows = []
  for row, ask in enumerate(asks, 1):
    try:
      rows.append(
        {
          'id': str(ask['question_id']),
          'question': ask['text'],
          'image': ask['image'],
          'category': ask['category'],
          'rule': f'llava_bench_{ask["category"]}' if wild else ask['category'],
          'reference': reference[ask['question_id']],
          'context': context[ask['image']],
          'set': 'in the wild' if wild else 'COCO',
        }
      )
    except KeyError as error:
      raise ValueError(
        f'{folder / names[0]}, record {row}: no {error} for it in '
        f'{", ".join(names)}'
      ) from error
  return rows  # fmt: skip


def _context(record: Mapping[str, Any]) -> str:
  """Captions and boxes as the judge reads them; in the wild a caption alone."""
  if 'captions' not in record:
    caption = record['caption']
    return '\n'.join(caption) if isinstance(caption, list) else caption
  boxes = [f'{i["category"]}: {i["bbox"]}' for i in record['instances']]
  return '\n'.join(record['captions']) + '\n\n' + '\n'.join(boxes)
