"""The card of an export: what it is made from, and under whose terms."""

import re
from collections.abc import Sequence

from rlhfv_jax.models.config import VLMConfig

_LLAMA1 = 'LLaMA licence (non-commercial research)'
_LLAMA2 = 'Llama 2 Community License'
# What our presets are built on.
_DECODERS = {
  'muffin|rlhfv': ('Vicuna v1.0 on LLaMA', _LLAMA1),
  'llava|vicuna': ('Vicuna v1.5 on Llama 2', _LLAMA2),
  'llama31': ('Llama 3.1', 'Llama 3.1 Community License'),
}
_TOWERS = {
  'beit3': ('BEiT-3 large', 'MIT'),
  'clip': ('CLIP ViT-L/14', 'MIT'),
}
_DATA = {
  r'(.*/)?RLHF-V-Dataset': 'CC BY-NC 4.0',
  r'(.*/)?RLAIF-V-Dataset': 'CC BY-NC 4.0',
  r'(.*/)?LLaVA-Human-Preference-10K': 'Apache-2.0',
  # Files of their shape, which may be anybody's.
  r'rlhfv:.*': 'CC BY-NC 4.0 if it is RLHF-V-Dataset',
  r'rlaifv:.*': 'CC BY-NC 4.0 if it is RLAIF-V-Dataset',
  r'llava_rlhf:.*': 'Apache-2.0 if it is LLaVA-Human-Preference-10K',
  r'playroom': 'Apache-2.0, made by rlhfv_jax itself',
}
_ID = r'[\w.-]+/[\w.-]+'  # on the hub
_UNKNOWN = 'not known to rlhfv_jax: look it up before you share this'

_USE = {
  'hf': """\
    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained(FOLDER)
    processor = AutoProcessor.from_pretrained(FOLDER)
""",
  'llama': """\
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
""",
  'muffin': """\
    transformers has no class for it. The names are those of thunlp/Muffin, and
    python -m rlhfv_jax convert import --from=FOLDER reads it.
""",
  'peft': """\
    from peft import PeftModel
    model = PeftModel.from_pretrained(BASE, FOLDER)
""",
}


def card(
  config: VLMConfig,
  *,
  format: str,
  preset: str = '',
  base: str = '',
  data: Sequence[str] = (),
  licence: str = '',
) -> str:
  """README.md, with the head that the hub reads."""
  sets = [name for name in data if re.fullmatch(_ID, name)]
  head = [
    '---',
    f'library_name: {"peft" if format == "peft" else "transformers"}',
    'license: other',
    f'license_name: {licence or "see-below"}',
    *([f'base_model: {base}'] if re.fullmatch(_ID, base) else []),
    *(['datasets:', *(f'- {name}' for name in sets)] if sets else []),
    'tags: [rlhfv_jax]',
    '---',
  ]
  terms = [f'| {what} | {name} | {of} |' for what, name, of in
           _parts(config, preset, base, data, licence)]  # fmt: skip
  kind = 'llama' if config.vision is None and format == 'hf' else format
  return '\n'.join([
    *head, '', '# ' + _title(format, preset, base), '',
    'Exported by rlhfv_jax.', '',
    '| part | from | licence |', '|---|---|---|', *terms, '',
    'All of these terms hold for whoever uses or shares these weights.', '',
    _USE[kind],
  ])  # fmt: skip


def _parts(config, preset, base, data, licence):
  if licence:
    yield 'these weights', base or 'trained from nothing', licence
  elif base:
    yield 'base', base, 'that of its parts'
  if preset:
    yield 'decoder', *_lookup(_DECODERS, preset)
  if preset and config.vision is not None:
    yield 'image tower', *_TOWERS[config.vision.kind]
  for name in data:
    known = [of for p, of in _DATA.items() if re.fullmatch(p, name)]
    yield 'data', name, known[0] if known else _UNKNOWN
  if not data:
    yield 'data', 'not stated', _UNKNOWN


def _lookup(table, name):
  found = [v for p, v in table.items() if re.match(p, name)]
  return found[0] if found else (name, _UNKNOWN)


def _title(format, preset, base):
  what = 'Adapters for' if format == 'peft' else 'From'
  return f'{what} {base or preset or "a model of rlhfv_jax"}'
