"""Templates: the strings around a conversation, as each model learned them."""

from collections.abc import Sequence
from dataclasses import dataclass

IMAGE = '<image>'
# What a piece of a conversation is: nothing that is ever scored, a tag that
# some recipes score, an answer of an earlier turn, the last answer.
CONTEXT, TAG, EARLIER, ANSWER = range(4)


@dataclass(frozen=True)
class Template:
  """The strings that a model was trained with. An answer ends with `stop`.

  A model that writes may end with something else or with less: `ends`, which is
  `stop` where nothing is said. `tokens` are those that the family adds to the
  vocabulary, in the order of their ids; white space beside them is theirs.
  """

  user: str  # around {image} and {text}
  assistant: str
  answer: str = ' {text}'
  system: str = ''
  opening: str = ''  # stands once, before the first turn; a tag
  image: str = f'{IMAGE}\n'
  stop: str | None = None  # None: the tokenizer's end-of-sequence token
  ends: tuple[str, ...] = ()
  tokens: tuple[str, ...] = ()
  placeholder: str = IMAGE  # the token that stands for an image feature


_CHAT = (
  'A chat between a curious {who} and an artificial intelligence assistant. '
  "The assistant gives helpful, detailed, and polite answers to the {who}'s "
  'questions.'
)
_MUFFIN = {
  'tokens': ('[PAD]', '<im_patch>', '<im_start>', '<im_end>'),
  'placeholder': '<im_patch>',
  'ends': ('###',),
}
_HEADER = '<|start_header_id|>{}<|end_header_id|>\n\n'

TEMPLATES = {
  'playroom': Template(
    user='{image}user: {text} ', assistant='assistant:', image=f'{IMAGE} '
  ),
  # LLaVA's training template, which without a picture is Vicuna's own, and the
  # one that LLaVA's evaluations use.
  'vicuna_v1': Template(
    system=_CHAT.format(who='user') + ' ',
    user='USER: {image}{text} ',
    assistant='ASSISTANT:',
  ),
  'llava_v1': Template(
    system=_CHAT.format(who='human') + ' ',
    user='USER: {image}{text} ',
    assistant='ASSISTANT:',
  ),
  # A picture and its caption, which connectors are trained on: what was asked
  # is not told.
  'plain': Template(
    user='{image}', assistant='', answer='{text}', image=IMAGE, stop='\n'
  ),
  # RLHF-V's training template; its tags and stops are scored.
  'muffin': Template(
    system=_CHAT.format(who='human') + '\n\n',
    opening='### ',
    user='Human: {image}{text}\n',
    assistant='### Assistant:',
    image=f'<im_start>{IMAGE}<im_end>\n',
    stop='\n### ',  # ends an answer and opens the next turn
    **_MUFFIN,
  ),
  # What RLHF-V's evaluations ask with: the picture after the question, and the
  # model writes the name of its own role.
  'muffin_eval': Template(
    system=_CHAT.format(who='human') + '\n###',
    user='Human: {text}{image}\n###',
    assistant='',
    answer=' Assistant: {text}',
    image=f'\n<im_start>{IMAGE}<im_end>',
    stop='\n###',
    **_MUFFIN,
  ),
  'llama3': Template(
    user=_HEADER.format('user') + '{image}{text}<|eot_id|>',
    assistant=_HEADER.format('assistant'),
    answer='{text}',
    stop='<|eot_id|>',
    ends=('<|eot_id|>', '<|end_of_text|>'),
  ),
}


def template(name: str) -> Template:
  if name not in TEMPLATES:
    raise ValueError(f'chat template {name!r}: one of {sorted(TEMPLATES)}')
  return TEMPLATES[name]


def render(
  turns: Sequence[tuple[str, str]],
  answer: str | None,
  template: Template,
  *,
  stop: str,
  image: bool,
  suffix: str = '',
) -> list[tuple[str, int]]:
  """The pieces (text, kind) of a conversation; without an answer, its prompt.

  The picture stands in the first user turn; `suffix` follows the last answer,
  as what asks a reward model for its judgement does.
  """
  picture = template.image if image else ''
  pieces = [(template.system, CONTEXT), (template.opening, TAG)]
  for role, text in turns:
    if role == 'user':
      said = template.user.format(image=picture, text=text)
      pieces += [(said, CONTEXT), (template.assistant, TAG)]
      picture = ''
    else:
      said = template.answer.format(text=text)
      pieces += [(said, EARLIER), (stop, EARLIER)]
  if answer is not None:
    said = template.answer.format(text=answer)
    pieces += [(said, ANSWER), (stop, ANSWER), (suffix, CONTEXT)]
  return [(text, kind) for text, kind in pieces if text]


def ends(template: Template) -> tuple[str, ...]:
  """The texts that end a written answer, beside the tokenizer's end token."""
  return template.ends or ((template.stop,) if template.stop else ())


def answer(written: str, template: Template) -> str:
  """The answer in what a model wrote: up to an end, without its role's name."""
  for end in ends(template):
    written = written.partition(end)[0]
  role = template.answer.partition('{')[0].strip()
  return written.strip().removeprefix(role).strip()
