"""Benchmarks: answers in, numbers out.

Each module of NAMES has `questions(path) -> list[dict]` and
`score(answers, path, ...) -> dict` (`tally.result`); those with a judge also
have `prompts(answers, path, ...)`, whose replies go into `score(replies=...)`.
"""

NAMES = (
  'amber', 'chair', 'hallusionbench', 'llava_bench', 'mhumaneval', 'mmhal',
  'objhal', 'overgeneralization', 'playroom', 'pope', 'vqa',
)  # fmt: skip
