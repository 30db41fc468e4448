"""Messages: conversations as lists of {role, content} or {from, value}.

The keys and the names of who speaks are tags; a system line is no turn.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhfv_jax.data.example import IMAGE, Example, RowError

Turns = tuple[tuple[str, str], ...]


class Tags(NamedTuple):
  role: str
  content: str
  user: str
  assistant: str
  system: str = 'system'


OPENAI = Tags('role', 'content', 'user', 'assistant')
SHAREGPT = Tags('from', 'value', 'human', 'gpt')


def read(messages: Any, tags: Tags, what: str) -> tuple[str, Turns]:
  """The system line, and the turns as they are written."""
  if not isinstance(messages, list):
    raise RowError('wrong type', f'{what} is no list of messages')
  names = {tags.user: 'user', tags.assistant: 'assistant'}
  system, turns = '', []
  for message in messages:
    role, text = speaker(message, tags, what), said(message, tags, what)
    if role == tags.system and not turns:
      system += text
    elif role in names:
      turns.append((names[role], text))
    else:
      raise RowError(
        'unknown role',
        f'{role!r} in {what}: {tags.user}, {tags.assistant}, {tags.system}',
      )
  return system, tuple(turns)


def speaker(message: Any, tags: Tags, what: str) -> Any:
  if not isinstance(message, Mapping) or tags.role not in message:
    raise RowError('malformed turn', f'{what}: {str(message)[:60]}')
  return message[tags.role]


def said(message: Mapping, tags: Tags, what: str) -> str:
  """Text, or the text of parts; a part that is a picture becomes its mark."""
  content = message.get(tags.content)
  if isinstance(content, str):
    return content
  if not isinstance(content, list):
    raise RowError('wrong type', f'{what}: {str(message)[:60]} has no text')
  texts = []
  for part in content:
    kind = part.get('type') if isinstance(part, Mapping) else None
    if kind == 'image':
      texts.append(IMAGE)
    elif kind == 'text' and isinstance(part.get('text'), str):
      texts.append(part['text'])
    else:
      raise RowError('malformed turn', f'{what}: part {str(part)[:60]}')
  return ''.join(texts)


def write(turns: Sequence[tuple[str, str]], tags: Tags) -> list[dict]:
  names = {'user': tags.user, 'assistant': tags.assistant}
  return [{tags.role: names[role], tags.content: text} for role, text in turns]


def with_system(messages: list[dict], example: Example, tags: Tags) -> list:
  """Opened by the system line, where the example came with one."""
  if not (system := example.extra.get('system')):
    return messages
  return [{tags.role: tags.system, tags.content: system}, *messages]


def marked(example: Example) -> Turns:
  """The turns with one mark for the picture, at the front if it has none."""
  marks = sum(text.count(IMAGE) for _, text in example.turns)
  if example.image is None or marks or not example.turns:
    return example.turns
  (role, text), *rest = example.turns
  mark = f'{IMAGE}\n' if text.startswith('\n') else IMAGE
  return ((role, mark + text), *rest)


def unmarked(turns: Turns, pictures: int) -> Turns:
  """Without the mark at the front, where most people write it, and its line."""
  if not pictures or not turns or not turns[0][1].startswith(IMAGE):
    return turns
  (role, text), *rest = turns
  return ((role, text.removeprefix(IMAGE).removeprefix('\n')), *rest)


def picture(images: Any) -> dict:
  """The only picture of a row, {bytes, path}."""
  images = [images] if isinstance(images, dict) else images or []
  if not isinstance(images, list) or len(images) > 1:
    count = len(images) if isinstance(images, list) else type(images).__name__
    raise RowError('several pictures', f'{count}: a row has one')
  only = images[0] if images and images[0] else {}
  return {'bytes': only} if isinstance(only, bytes) else only


def pictures(example: Example) -> list[dict]:
  if example.image is None:
    return []
  return [{'bytes': example.image, 'path': example.image_path or None}]
