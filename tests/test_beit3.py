"""BEiT-3 against torchscale 0.2.0, which Muffin and RLHF-V were built on.

`pip install --no-deps torchscale==0.2.0` makes these tests live. Without it the
tower is held against golden/beit3_torchscale.npz, which was made by

    python tests/test_beit3.py
"""

import importlib.util
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from originals import (
  IMAGE,
  TEXT,
  assert_same,
  error,
  hugging_face,
  outcome,
  pictures,
  read,
  rows,
  scattered,
  tree_of,
)

from rlhfv_jax import models
from rlhfv_jax.models import beit3
from rlhfv_jax.models.config import VisionConfig

GOLDEN = Path(__file__).parent / 'golden' / 'beit3_torchscale.npz'
TOWER = dict(
  kind='beit3', patch=16, width=16, mlp=24, depth=4, heads=2, queries=5
)
SMALL = {**TOWER, 'image_size': 24, 'patch': 8, 'query_rows': 9}


def torchscale(config):
  """The original's tower; it imports two libraries that it never calls."""
  torch = pytest.importorskip('torch')
  pytest.importorskip('torchscale')
  for name, unused in (
    ('fairscale.nn', ['checkpoint_wrapper', 'wrap']),
    ('timm.models.layers', ['drop_path']),
  ):
    parts = name.split('.')
    if parts[0] in sys.modules or importlib.util.find_spec(parts[0]):
      continue
    for i in range(len(parts)):
      whole = '.'.join(parts[: i + 1])
      sys.modules[whole] = types.ModuleType(whole)
    vars(sys.modules[name]).update(dict.fromkeys(unused))
  from torchscale.architecture.config import EncoderConfig
  from torchscale.model.BEiT3 import BEiT3

  c = VisionConfig(**config)
  tower = BEiT3(
    EncoderConfig(
      img_size=c.image_size, patch_size=c.patch, multiway=True, vocab_size=1,
      encoder_embed_dim=c.width, encoder_ffn_embed_dim=c.mlp,
      encoder_layers=c.depth, encoder_attention_heads=c.heads,
      no_output_layer=True, max_source_positions=c.query_rows or c.queries + 2,
    )
  )  # fmt: skip
  # Muffin drops what it does not use.
  tower.text_embed = tower.vision_embed.mask_token = None
  return torch, scattered(tower)


def ask(torch, tower, pixels, query):
  """What the queries come back as: appended to the patches, as in Muffin."""
  seen = tower.vision_embed(torch.tensor(pixels.transpose(0, 3, 1, 2)))
  both = torch.cat([seen, query.expand(len(seen), -1, -1)], 1)
  out = tower.encoder(
    src_tokens=None,
    token_embeddings=both,
    multiway_split_position=seen.shape[1],
  )
  return out['encoder_out'][:, seen.shape[1] :]


def golden():
  """Weights, a picture and queries in half precision; the original's answer."""
  torch, tower = torchscale(SMALL)
  tower = tower.half().float()
  rng = np.random.default_rng(3)
  pixels = rng.normal(size=(2, 24, 24, 3)).astype(np.float16)
  query = rng.normal(size=(5, 16)).astype(np.float16)
  with torch.no_grad():
    asked = torch.tensor(query).float()
    out = ask(torch, tower, pixels.astype(np.float32), asked)
  named = {n: p.detach().numpy() for n, p in tower.named_parameters()}
  weights = {f'weights.{n}': p.astype(np.float16) for n, p in named.items()}
  return weights | {'pixels': pixels, 'query': query, 'expected': out.numpy()}


def features(config, params, pixels, query):
  tower = beit3.Beit3(VisionConfig(**config), 'float32', 'none')
  return jax.jit(tower.apply)({'params': params}, pixels, query)


def test_the_tower_gives_what_torchscale_gave():
  with np.load(GOLDEN) as file:
    saved = {n: x.astype(np.float32) for n, x in file.items()}
  inside = [n for n in saved if n.startswith('weights.')]
  params = tree_of({n.removeprefix('weights.'): saved[n] for n in inside})
  assert np.abs(saved['expected']).max() > 1
  out = features(SMALL, params, saved['pixels'], saved['query'])
  assert error(out, saved['expected']) <= 1e-4


def test_torchscale_gives_what_the_golden_file_says():
  fresh = golden()
  with np.load(GOLDEN) as file:
    assert set(file) == set(fresh)
    for name, x in fresh.items():
      np.testing.assert_allclose(file[name], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'size',
  [
    672,
    pytest.param(448, marks=pytest.mark.slow),
    pytest.param(224, marks=pytest.mark.slow),
  ],
)
def test_the_tower_equals_torchscale_at_every_resolution(size):
  config = {**TOWER, 'image_size': size}
  torch, reference = torchscale(config)
  params, _ = read(reference)
  table = np.random.default_rng(5).normal(size=(14**2 + 3, 16))
  table = beit3.resize_positions(np.float32(table), patches=(size // 16) ** 2)
  reference.encoder.embed_positions.A.weight.data = torch.tensor(table)
  params['encoder']['embed_positions']['A']['embedding'] = table
  rng = np.random.default_rng(4)
  pixels = rng.normal(size=(1, size, size, 3)).astype(np.float32)
  query = rng.normal(size=(5, 16)).astype(np.float32)
  with torch.no_grad():
    expected = ask(torch, reference, pixels, torch.tensor(query)).numpy()
  assert error(features(config, params, pixels, query), expected) <= 1e-4


def test_muffin_equals_its_parts_put_together():
  torch, tower = torchscale(SMALL)
  decoder = scattered(transformers.LlamaForCausalLM(hugging_face(TEXT)))
  rest = torch.nn.Module()
  rest.mm_projector = torch.nn.Linear(16, TEXT['width'])
  rest.query = torch.nn.Parameter(torch.empty(5, 16))
  reads = [read(module) for module in (tower, decoder, scattered(rest))]

  def whole(trees):
    return {'vision_tower': trees[0]} | trees[1] | trees[2]

  batch, filled, weight = rows([24, 17, 12], SMALL['queries'])
  batch['images'] = pictures(3, 24)
  pixels = np.float32(batch['images'] / 255 * 2 - 1)
  seen = rest.mm_projector(ask(torch, tower, pixels, rest.query))
  words = decoder.model.embed_tokens(torch.tensor(batch['tokens']))
  spliced = [
    torch.cat([row[: b + 1], seen[b], row[b + 6 :]]) if b < 2 else row
    for b, row in enumerate(words)
  ]
  out = decoder(
    inputs_embeds=torch.stack(spliced),
    attention_mask=torch.tensor(filled).long(),
    output_hidden_states=True,
  )
  expected = outcome(out, batch['tokens'], weight)
  model = models.build(dict(text=TEXT, vision=SMALL, image_token=IMAGE))
  assert_same(
    model, whole([params for params, _ in reads]), batch, filled=filled,
    weight=weight, expected=expected,
    gradients=whole([gradients() for _, gradients in reads]),
  )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(old=st.integers(1, 16), new=st.integers(1, 48), seed=st.integers(0, 9))
def test_positions_are_resized_as_torch_resizes(old, new, seed):
  torch = pytest.importorskip('torch')
  table = np.random.default_rng(seed).normal(size=(old**2 + 3, 4))
  table = table.astype(np.float32)
  grid = torch.tensor(table[3:].T).reshape(1, 4, old, old)
  grid = torch.nn.functional.interpolate(
    grid, size=(new, new), mode='bicubic', align_corners=False
  )
  resized = beit3.resize_positions(table, patches=new**2)
  assert resized.dtype == np.float32
  np.testing.assert_array_equal(resized[:3], table[:3])
  expected = grid[0].reshape(4, -1).T
  np.testing.assert_allclose(resized[3:], expected, atol=1e-4)


@pytest.mark.parametrize('rows_, patches', [(199, 785), (200, 784), (3, 784)])
def test_positions_of_no_square_are_refused(rows_, patches):
  with pytest.raises(ValueError, match=f'{rows_} rows.*{patches} are asked'):
    beit3.resize_positions(np.zeros((rows_, 4)), patches=patches)


if __name__ == '__main__':
  np.savez_compressed(GOLDEN, **golden())
