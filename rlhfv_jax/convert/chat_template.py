"""A chat template as transformers has it: our strings, in Jinja."""

import re

from transformers import PreTrainedTokenizerBase

from rlhfv_jax.data.templates import Template
from rlhfv_jax.data.tokenizer import stop_text

# Content is a text, or a list of parts of which some are pictures.
_READ = """\
{%- macro words(message) -%}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}{%- for part in message['content'] if part['type'] == 'text' -%}
{{ part['text'] }}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- set seen = namespace(picture=false) -%}
"""
_PICTURE = """\
{%- set picture = message['content'] is not string and message['content']
    | selectattr('type', 'equalto', 'image') | list and not seen.picture -%}
{%- if picture -%}{%- set seen.picture = true -%}{%- endif -%}
"""


def jinja(
  template: Template, tokenizer: PreTrainedTokenizerBase, *, bos: bool
) -> str:
  """What renders a conversation to the characters that we train on.

  `bos`: whether the first token is in the text; a processor adds it itself.
  """
  system = template.system.rstrip()
  after = template.system[len(system) :]
  stop = stop_text(tokenizer, template)
  said = _said(template.user, {
    'image': f"{{{{ {_quoted(template.image)} if picture else '' }}}}",
    'text': '{{ words(message) }}',
  })  # fmt: skip
  answered = _said(template.answer, {'text': '{{ words(message) }}'})
  head = [
    "{%- if messages and messages[0]['role'] == 'system' -%}",
    '{{ words(messages[0]) }}{%- else -%}',
    f'{{{{ {_quoted(system)} }}}}{{%- endif -%}}',
    f'{{{{ {_quoted(after + template.opening)} }}}}',
  ]
  turns = [
    '{%- for message in messages -%}',
    "{%- if message['role'] == 'user' -%}", _PICTURE, said,
    '{%- if not loop.last or add_generation_prompt -%}',
    f'{{{{ {_quoted(template.assistant)} }}}}{{%- endif -%}}',
    "{%- elif message['role'] == 'assistant' -%}", answered,
    f'{{{{ {_quoted(stop)} }}}}',
    '{%- endif -%}{%- endfor -%}',
  ]  # fmt: skip
  begin = ['{{ bos_token }}'] if bos and tokenizer.bos_token else []
  return ''.join([_READ, *begin, *head, *turns])


def _said(form: str, slots: dict[str, str]) -> str:
  """A format string as Jinja: literal pieces, and what stands in its slots."""
  pieces = re.split(r'\{(\w+)\}', form)
  return ''.join(
    slots[piece] if i % 2 else f'{{{{ {_quoted(piece)} }}}}'
    for i, piece in enumerate(pieces)
    if piece
  )


def _quoted(text: str) -> str:
  """A literal of Jinja, whose strings are Python's."""
  return repr(text)
