"""The towers: BEiT-3 equal to its description, pixels, remat."""

import functools
import math

import jax
import numpy as np
import pytest

from rlhfv_jax import models
from rlhfv_jax.models.beit3 import Beit3
from rlhfv_jax.models.clip import Clip
from rlhfv_jax.models.config import VisionConfig

CLIP = dict(
  kind='clip', image_size=12, patch=4, width=24, mlp=32, depth=3, heads=3
)
BEIT3 = {**CLIP, 'kind': 'beit3', 'depth': 2, 'queries': 5}
TEXT = dict(
  vocab_size=67, width=32, mlp=48, depth=1, heads=4, kv_heads=4, max_length=64
)


def randoms(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scattered(shapes, seed=0):
  """Random leaves, so that no bias or norm hides behind 0 or 1."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(0.1, 0.3, x.shape).astype(np.float32), shapes
  )


def beit3_one_token_at_a_time(tree, pixels, query, config):
  """BEiT-3 over one picture in float64, as a loop over tokens.

  Every token carries the letter of its expert; each step asks for its weights.
  """
  c = config
  erf = np.vectorize(math.erf)

  def linear(x, w):
    return x @ np.float64(w['kernel']) + w['bias']

  def norm(x, w):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * w['weight'] + w['bias']

  embed, encoder = tree['vision_embed'], tree['encoder']
  tokens = [('A', np.float64(embed['cls_token'][0, 0]))]
  for top in range(0, c.image_size, c.patch):
    for left in range(0, c.image_size, c.patch):
      patch = pixels[top : top + c.patch, left : left + c.patch]
      tokens.append(('A', linear(patch.reshape(-1), embed['proj'])))
  seen = len(tokens)
  tokens += [('B', np.float64(q)) for q in query]
  tables = encoder['embed_positions']
  for i, (e, x) in enumerate(tokens):
    row = 2 + (i if e == 'A' else i - seen)
    tokens[i] = e, x + tables[e]['embedding'][row]

  size = c.width // c.heads
  for depth in range(c.depth):
    layer = jax.tree.map(lambda w, d=depth: w[d], encoder['layers'])
    attn = layer['self_attn']
    normed = [(e, norm(x, layer['self_attn_layer_norm'][e])) for e, x in tokens]
    q, k, v = (
      np.stack([linear(x, attn[name][e]) for e, x in normed])
      for name in ('q_proj', 'k_proj', 'v_proj')
    )
    for i, (e, x) in enumerate(tokens):
      merged = []
      for h in range(c.heads):
        own = slice(h * size, (h + 1) * size)
        weight = np.exp(k[:, own] @ (q[i, own] * size**-0.5))
        merged.append(weight / weight.sum() @ v[:, own])
      out = norm(np.concatenate(merged), attn['inner_attn_ln'][e])
      tokens[i] = e, x + linear(out, attn['out_proj'][e])
    for i, (e, x) in enumerate(tokens):
      ffn = layer['ffn'][e]
      h = linear(norm(x, layer['final_layer_norm'][e]), ffn['fc1'])
      h = h * (1 + erf(h / np.sqrt(2))) / 2
      tokens[i] = e, x + linear(norm(h, ffn['ffn_layernorm']), ffn['fc2'])
  asked = [norm(x, encoder['layer_norm'][e]) for e, x in tokens[seen:]]
  return np.stack(asked)


@pytest.mark.parametrize('rows', [0, 11])
def test_beit3_equals_its_description(rows):
  config = VisionConfig(**BEIT3, query_rows=rows)
  tower = Beit3(config, 'float32', 'none')
  pixels, query = randoms(2, 2, 12, 12, 3), randoms(3, 5, 24)
  shapes = jax.eval_shape(tower.init, jax.random.key(0), pixels, query)
  params = scattered(shapes)
  table = params['params']['encoder']['embed_positions']['B']['embedding']
  assert len(table) == (rows or 7)
  features = jax.jit(tower.apply)(params, pixels, query)
  expected = [
    beit3_one_token_at_a_time(params['params'], image, query, config)
    for image in pixels
  ]
  assert features.shape == (2, 5, 24)
  np.testing.assert_allclose(features, expected, atol=1e-5)


def test_beit3_has_the_names_and_shapes_of_the_released_model():
  vision = dict(
    kind='beit3', image_size=448, patch=16, width=1024, mlp=4096, depth=24,
    heads=16, queries=64, query_rows=1024,
  )  # fmt: skip
  model = models.build(dict(text=TEXT, vision=vision, image_token=1))
  params = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  shapes = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  layers = 'vision_tower/encoder/layers'
  for name, shape in {
    'query': (64, 1024),
    'vision_tower/vision_embed/cls_token': (1, 1, 1024),
    'vision_tower/encoder/embed_positions/A/embedding': (787, 1024),
    'vision_tower/encoder/embed_positions/B/embedding': (1024, 1024),
    f'{layers}/self_attn/out_proj/B/kernel': (24, 1024, 1024),
    f'{layers}/self_attn/inner_attn_ln/A/bias': (24, 1024),
    f'{layers}/ffn/A/ffn_layernorm/weight': (24, 4096),
    'vision_tower/encoder/layer_norm/B/weight': (1024,),
    'mm_projector/kernel': (1024, 32),
  }.items():
    assert shapes[name] == shape, name
  tower = [n for n in shapes if n.startswith('vision_tower')]
  # 607,757,312 is what the original counts for the tower.
  assert sum(math.prod(shapes[n]) for n in tower) == 607_757_312


@pytest.mark.parametrize(
  'vision, connector, mean, std',
  [
    (BEIT3, 'linear', [0.5] * 3, [0.5] * 3),
    (
      {**CLIP, 'layer': -4},
      'mlp2x',
      [0.48145466, 0.4578275, 0.40821073],
      [0.26862954, 0.26130258, 0.27577711],
    ),
  ],
)
def test_encode_normalises_and_connects(vision, connector, mean, std):
  model = models.build(
    dict(text=TEXT, vision=vision, image_token=1, connector=connector)
  )
  shapes = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  params = scattered(shapes)
  rng = np.random.default_rng(4)
  images = rng.integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)

  @jax.jit
  def apart(params, pixels):
    config, more = VisionConfig(**vision), ()
    tower = Beit3 if config.kind == 'beit3' else Clip
    if config.kind == 'beit3':
      more = (params['query'],)
    tree = {'params': params['vision_tower']}
    return tower(config, 'float32', 'none').apply(tree, pixels, *more)

  x = apart(params, np.float32((images / 255 - mean) / std))
  linear = params['mm_projector']
  if connector == 'mlp2x':
    x = (
      x @ linear['linear_1']['kernel'] + linear['linear_1']['bias'][None, None]
    )
    x = jax.nn.gelu(x, approximate=False)
    linear = linear['linear_2']
  expected = x @ linear['kernel'] + linear['bias'][None, None]
  encode = jax.jit(functools.partial(model.apply, method='encode'))
  features = encode({'params': params}, images)
  assert features.shape == (2, model.config.image_tokens, 32)
  np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('vision', [BEIT3, CLIP])
def test_remat_reaches_the_tower(vision):
  images = np.zeros((1, 12, 12, 3), np.uint8)
  for remat in ('none', 'full'):
    model = models.build(
      dict(text=TEXT, vision=vision, image_token=1, remat=remat)
    )
    params = jax.eval_shape(
      functools.partial(models.init, model), jax.random.key(0)
    )
    encode = functools.partial(model.apply, images=images, method='encode')
    traced = jax.make_jaxpr(encode)({'params': params})
    assert ('remat' in str(traced)) == (remat == 'full')
