"""LLaVA-RLHF: facts x symbolic reward x length term (arXiv 2309.14525).

The paper never takes them apart.
"""

import itertools

from configs.papers.arms import BASE, DDPO, PPO, SFT, less, published

PARTS = {
  'facts': ({'reward': {'facts': True}}, {'reward': {'facts': False}}),
  'rule': ({'ppo': {'reward': {'correct': 2.0}}},
           {'ppo': {'reward': {'correct': 0.0}}}),
  'length': ({'ppo': {'reward': {'length': -0.5}}},
             {'ppo': {'reward': {'length': 0.0}}}),
}  # fmt: skip


def factrlhf() -> dict:
  arms, of = {'base': BASE}, {}
  for chosen in itertools.product((True, False), repeat=len(PARTS)):
    name = ', '.join(
      f'{part}' if on else f'no {part}'
      for part, on in zip(PARTS, chosen, strict=True)
    )
    facts, rule, length = (
      ways[0 if on else 1]
      for ways, on in zip(PARTS.values(), chosen, strict=True)
    )
    reward = rule['ppo']['reward'] | length['ppo']['reward']
    arms[name] = PPO | facts | {'ppo': {'reward': reward}}
    of[name] = dict(zip(PARTS, chosen, strict=True))
  arms |= {'ddpo': DDPO, 'sft': SFT}

  def halves(part: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(
      tuple(name for name, on in of.items() if on[part] is way)
      for way in (True, False)
    )

  (facts, blind), (rule, free), (short, long) = map(halves, PARTS)
  every = tuple(of)
  return {
    'claim': 'Facts in front of the reward model, a bonus for what a rule '
    'finds right and a price of length each do something for PPO.',
    'arms': arms,
    'tests': (
      less('hallucination', every, 'base', 'PPO hallucinates less'),
      less('hallucination', facts, blind, 'facts make it hallucinate less'),
      less('vqa', free, rule, 'the rule keeps answers to closed questions'),
      less('length', short, long, 'the price of length shortens answers'),
      less('coverage', short, long, 'the price of length costs coverage'),
      less('hallucination', 'ddpo', 'facts, rule, length',
           'DDPO on corrections does more'),
      less('hallucination', 'sft', 'facts, rule, length',
           'so does fine-tuning on corrected answers'),
    ),
    'published': published(
      'section 3', 'MMHal score, hallucination; POPE F1; LLaVA-Bench',
      {'LLaVA-SFT+ 7B': (1.76, 67, 82.7, 86.3),
       'RLHF without facts 7B': (1.8, None, None, 93.4),
       'LLaVA-RLHF 7B': (2.05, 68, 81.5, 94.1),
       'LLaVA-SFT+ 13B': (2.43, 55, 82.8, 85.2),
       'LLaVA-RLHF 13B': (2.53, 57, 81.9, 95.6)},
      note='the judge was gpt-4-0314, which is retired',
      paper='LLaVA-RLHF, arXiv 2309.14525',
    ),
  }  # fmt: skip


REWARDS = {'factrlhf': factrlhf}
