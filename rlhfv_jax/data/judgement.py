"""Judgement: what follows an answer in a reward model's row, to ask for a mark.

After the answer stands a further turn that asks for its judgement and begins
the reply; the reply's last token is where the score is read. There is a slot
for facts about the picture, which come in an order drawn once for a row: both
answers of a pair are judged by the same words.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.templates import Template

SLOT = '{facts}'
# What LLaVA-RLHF's reward models learned to find in its prompt's slot.
RELEASED_SLOT = '{factual_prompt}'
RELEASED_KNOWN = (
  "Specifically, the AI's response should be fully supported by the "
  'combination of the following captions:\n'
)
RELEASED_EACH = '  - {fact}\n'


@dataclass(frozen=True)
class Judgement:
  """judgement(example) -> the text that follows each of its answers.

  `known` stands before the facts, `each` around one. A row without facts is an
  error where they are wanted: a score of a bare row means something else.
  """

  text: str  # with SLOT where the facts go
  known: str = ''
  each: str = '{fact} '
  facts: bool = True
  seed: int = 0

  def __post_init__(self):
    if self.facts and self.text.count(SLOT) != 1:
      raise ValueError(
        f'a reward prompt with facts has one {SLOT} in it, and this has '
        f'{self.text.count(SLOT)}: {self.text[:60]!r}; set '
        'config.reward.facts=False to judge without'
      )
    if '{fact}' not in self.each:
      raise ValueError(
        f'config.reward.prompt.each = {self.each!r}: no {{fact}}'
      )

  def __call__(self, example: Example) -> str:
    told = self.known + ''.join(map(self._fact, self.order(example)))
    return self.text.replace(SLOT, told if self.facts else '')

  def order(self, example: Example) -> list[str]:
    """The facts as this row has them: the same for any reader."""
    if not self.facts:
      return []
    if not example.facts:
      raise RowError(
        'no facts', 'of its picture: bring them, or config.reward.facts=False'
      )
    # What is known and asked, and no name: an answer that is scored alone is
    # judged by the words that it had in its pair.
    key = json.dumps([self.seed, example.facts, example.turns])
    drawn = hashlib.blake2b(key.encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(drawn, 'little'))
    return [example.facts[i] for i in rng.permutation(len(example.facts))]

  def _fact(self, fact: str) -> str:
    return self.each.replace('{fact}', fact)


def asked(
  template: Template, question: str, reply: str = '', **options
) -> Judgement:
  """The question as a turn of the template, and how its answer begins."""
  turn = template.user.replace('{image}', '').replace('{text}', question)
  return Judgement(turn + template.assistant + reply, **options)


def released(path: str | Path, **options) -> Judgement:
  """LLaVA-RLHF's prompt, from its own file; a blank stands before it."""
  try:
    text = Path(path).read_text('utf-8').strip()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path}: no reward prompt can be read there: {error}'
    ) from error
  if not text:
    raise ValueError(f'{path}: this reward prompt is empty')
  text = ' ' + text.replace(RELEASED_SLOT, SLOT)
  return Judgement(text, RELEASED_KNOWN, RELEASED_EACH, **options)


def of(
  prompt: Mapping[str, str], template: Template, *, facts: bool, seed: int
) -> Judgement:
  """As a config says it: a file of LLaVA-RLHF, or a question and its reply."""
  if prompt.get('file'):
    return released(prompt['file'], facts=facts, seed=seed)
  return asked(
    template, prompt['question'], prompt['reply'], known=prompt['known'],
    each=prompt['each'], facts=facts, seed=seed,
  )  # fmt: skip
