"""Released checkpoints at small size: the real names, random numbers."""

import functools
import json
import re

import numpy as np
import transformers
from originals import hugging_face, read, scattered

TEXT = dict(
  vocab_size=67, width=32, mlp=48, depth=3, heads=4, kv_heads=2, max_length=64,
  rms_eps=1e-5,
)  # fmt: skip
CLIP = dict(
  kind='clip', image_size=12, patch=4, width=24, mlp=32, depth=3, heads=3
)
# That of golden/beit3_torchscale.npz.
BEIT3 = dict(
  kind='beit3', image_size=24, patch=8, width=16, mlp=24, depth=4, heads=2,
  queries=5, query_rows=9,
)  # fmt: skip
# As in LLaVA, the placeholder comes right after the words.
LLAVA = dict(text=TEXT, vision=CLIP, connector='mlp2x', image_token=67)
LINEAR = {**LLAVA, 'connector': 'linear'}
MUFFIN = dict(text={**TEXT, 'vocab_size': 71}, vision=BEIT3, image_token=68)
UNREAD = ('post_layernorm', 'vision_tower.encoder.layers.2')


@functools.cache
def decoder(**change):
  return scattered(
    transformers.LlamaForCausalLM(hugging_face({**TEXT, **change}))
  )


@functools.cache
def llava():
  """transformers' LLaVA-1.5; its words are padded to a multiple of 64."""
  config = transformers.LlavaConfig(
    text_config=hugging_face({**TEXT, 'vocab_size': 128}),
    vision_config=transformers.CLIPVisionConfig(
      hidden_size=24, intermediate_size=32, num_hidden_layers=3,
      num_attention_heads=3, image_size=12, patch_size=4,
    ),
    image_token_index=67,
    image_seq_length=9,
  )  # fmt: skip
  return scattered(transformers.LlavaForConditionalGeneration(config))


def expected(words=67):
  """What `llava` is under our names, by another way than a table."""
  tree = read(llava(), UNREAD)[0]
  embedding = tree['language_model']['embed_tokens']
  embedding['embedding'] = embedding['embedding'][:words]
  head = tree['language_model']['lm_head']
  head['kernel'] = head['kernel'][:, :words]
  return tree


def state(layout, connector='mlp2x', words=67):
  """The tensors of `llava` as a format names them."""
  rules = {
    'hf5_state': (),
    'hf_state': ((r'vision_tower\.', 'vision_tower.vision_model.'),),
    'hf5': (
      (r'^lm_head', 'language_model.lm_head'),
      (r'^model\.language_model', 'language_model.model'),
      (r'^model\.', ''),
    ),
  }
  rules['hf'] = (*rules['hf5'], *rules['hf_state'])
  rules['llava'] = (
    (r'^model\.language_model', 'model'),
    (r'vision_tower\.', 'vision_tower.vision_tower.vision_model.'),
    (r'multi_modal_projector\.linear_1', 'mm_projector.0'),
    (r'multi_modal_projector\.linear_2', 'mm_projector.2'),
    *[(r'mm_projector\.0', 'mm_projector')] * (connector == 'linear'),
  )
  found = {}
  for name, x in llava().state_dict().items():
    for pattern, new in rules[layout]:
      name = re.sub(pattern, new, name)
    if layout == 'llava' and ('embed_tokens' in name or 'lm_head' in name):
      x = x[:words]
    if connector == 'mlp2x' or 'mm_projector.2' not in name:
      found[name] = x.clone()
  if layout == 'llava':
    import torch

    for layer in range(TEXT['depth']):
      name = f'model.layers.{layer}.self_attn.rotary_emb.inv_freq'
      found[name] = torch.ones(4)
  return found


def beit3(prefix):
  """torchscale's own names and numbers, from the golden file; and the rest."""
  import torch
  from test_beit3 import GOLDEN

  with np.load(GOLDEN) as file:
    saved = {n: x.astype(np.float32) for n, x in file.items()}
  named = {
    f'{prefix}.{name.removeprefix("weights.")}': torch.tensor(x)
    for name, x in saved.items()
    if name.startswith('weights.')
  }
  return named, saved


def muffin():
  """Muffin's tensors, those that its authors' code drops among them."""
  import torch

  named, saved = beit3('model.vision_tower.beit3')
  torch.manual_seed(1)
  rest = {
    'model.query': torch.tensor(saved['query']),
    'model.mm_projector.weight': torch.randn(32, 16),
    'model.mm_projector.bias': torch.randn(32),
    'model.vision_tower.beit3.vision_embed.mask_token': torch.randn(1, 1, 16),
    'model.vision_tower.beit3.text_embed.weight': torch.randn(30, 16),
  }
  words = decoder(vocab_size=71).state_dict()
  return {k: x.clone() for k, x in words.items()} | named | rest


def shards(folder, tensors, *, number=3, suffix='.bin', stem='pytorch_model'):
  """A sharded checkpoint with its index, as transformers writes them."""
  folder.mkdir(exist_ok=True, parents=True)
  where = {}
  for i in range(number):
    inside = dict(list(tensors.items())[i::number])
    name = f'{stem}-{i + 1:05d}-of-{number:05d}{suffix}'
    where |= dict.fromkeys(inside, name)
    file(folder / name, inside)
  index = {'metadata': {}, 'weight_map': where}
  (folder / f'{stem}{suffix}.index.json').write_text(json.dumps(index))
  return folder


def file(path, tensors):
  import torch
  from safetensors.torch import save_file

  path.parent.mkdir(exist_ok=True, parents=True)
  if path.suffix == '.safetensors':
    save_file(
      {k: x.contiguous() for k, x in tensors.items()}, path, {'format': 'pt'}
    )
  else:
    torch.save(tensors, path)
  return path
