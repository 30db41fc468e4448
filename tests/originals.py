"""What a torch model and ours are compared by: names, rows, and how near."""

import functools

import jax
import numpy as np
import transformers

from rlhfv_jax import models
from rlhfv_jax.batch import Batch
from rlhfv_jax.models.config import TextConfig
from rlhfv_jax.sharding import path_name

IMAGE = 66
TEXT = dict(
  vocab_size=67, width=64, mlp=96, depth=4, heads=4, kv_heads=4, max_length=99,
  rope_theta=5000.0, rms_eps=1e-5,
)  # fmt: skip


def tree_of(named):
  """torch's arrays under our names: linear maps turned, layers stacked."""
  tree, stacks = {}, {}

  def put(path, leaf, x):
    where = functools.reduce(lambda at, key: at.setdefault(key, {}), path, tree)
    where[leaf] = x

  for name, x in named.items():
    *path, leaf = name.split('.')
    if leaf == 'weight' and x.ndim == 4:
      leaf, x = 'kernel', x.transpose(2, 3, 1, 0).reshape(-1, len(x))
    elif leaf == 'weight' and any('embed' in p for p in path[-2:]):
      leaf = 'embedding'
    elif leaf == 'weight' and x.ndim == 2:
      leaf, x = 'kernel', x.T
    if 'layers' in path:
      number = path.pop(path.index('layers') + 1)
      stacks.setdefault((*path, leaf), {})[int(number)] = x
    else:
      put(path, leaf, x)
  for (*path, leaf), each in stacks.items():
    put(path, leaf, np.stack([each[i] for i in range(len(each))]))
  return tree


def renamed(name):
  """A name of transformers, where it is not ours."""
  name = name.replace('vision_model.', '')
  name = name.replace('multi_modal_projector', 'mm_projector')
  name = name.replace('lm_head', 'language_model.lm_head')
  if name.startswith(('model.layers', 'model.norm', 'model.embed_tokens')):
    return name.replace('model.', 'language_model.', 1)
  return name.removeprefix('model.')


def read(module, unread=()):
  """A torch model's weights, and a function that reads its gradients."""
  named = {n: p for n, p in module.named_parameters()
           if not any(part in n for part in unread)}  # fmt: skip

  def of(take):
    return tree_of({renamed(n): take(p).numpy() for n, p in named.items()})

  return of(lambda p: p.detach()), lambda: of(lambda p: p.grad)


def scattered(module):
  """Random weights under which every path shows."""
  import torch

  torch.manual_seed(0)
  with torch.no_grad():
    for name, weight in module.named_parameters():
      center = float('norm' in name and name.endswith('weight'))
      weight.normal_(center, 0.2)
  return module.eval()


def hugging_face(text):
  """The numbers of a decoder, in the words of transformers."""
  c = TextConfig(**text)
  rope = {'rope_type': 'default', 'rope_theta': c.rope_theta}
  if c.rope_factor != 1:
    rope |= {'rope_type': 'linear', 'factor': c.rope_factor}
  if c.rope_original:
    rope |= {
      'rope_type': 'llama3',
      'low_freq_factor': c.rope_low,
      'high_freq_factor': c.rope_high,
      'original_max_position_embeddings': c.rope_original,
    }
  return transformers.LlamaConfig(
    vocab_size=c.vocab_size,
    hidden_size=c.width,
    intermediate_size=c.mlp,
    num_hidden_layers=c.depth,
    num_attention_heads=c.heads,
    num_key_value_heads=c.kv_heads,
    max_position_embeddings=c.max_length,
    rope_parameters=rope,
    rms_norm_eps=c.rms_eps,
    tie_word_embeddings=c.tie_head,
  )


def rows(lengths, image_tokens=0):
  """Right-padded rows, a picture in all but the last; what is filled; weights.

  The weights of tokens are those of their log-probs in a sum.
  """
  rng = np.random.default_rng(1)
  tokens = rng.integers(1, IMAGE, (len(lengths), max(lengths)))
  for b, length in enumerate(lengths):
    tokens[b, length:] = 0
    if b + 1 < len(lengths):
      tokens[b, b + 1 : b + 1 + image_tokens] = IMAGE
  lengths = np.stack([lengths, np.zeros_like(lengths)], 1)
  arrays = {'tokens': tokens.astype('i4'), 'lengths': lengths.astype('i4')}
  filled = np.arange(tokens.shape[1]) < lengths[:, :1]
  scored = filled & (tokens != IMAGE)
  scored[:, 0] = False
  weight = np.float32(scored * rng.normal(size=tokens.shape))
  return Batch(arrays, (tokens.shape[1], 0, 1)), filled, weight


def pictures(n, size):
  rng = np.random.default_rng(2)
  return rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def outcome(out, tokens, weight):
  """(weighted sum of log-probs, hidden states, logits) of a torch decoder.

  The gradients of the sum stay in the model.
  """
  import torch

  logps = out.logits.log_softmax(-1)[:, :-1]
  logps = logps.gather(-1, torch.tensor(tokens[:, 1:, None]).long())[..., 0]
  total = (logps * torch.tensor(weight[:, 1:])).sum()
  total.backward()
  arrays = out.hidden_states[-1], out.logits
  return total.item(), *(x.detach().numpy() for x in arrays)


def error(a, b):
  """The largest difference, as a share of the largest number."""
  return np.abs(np.subtract(a, b)).max() / np.abs(b).max()


def assert_same(model, params, batch, *, filled, weight, expected, gradients):
  """Log-probs, hidden states, logits and all gradients are the original's."""

  def total(params):
    hidden = models.hidden(model, params, batch)
    logits = model.apply({'params': params}, hidden, method='logits')
    logps = models.logps_of_hidden(model, params, batch, states=hidden, chunk=7)
    return (weight * logps).sum(), (hidden, logits)

  fresh = jax.eval_shape(
    functools.partial(models.init, model), jax.random.key(0)
  )
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, fresh)
  step = jax.jit(jax.value_and_grad(total, has_aux=True))
  (value, out), got = step(params)
  assert abs(value - expected[0]) <= 1e-4 * np.abs(weight).sum()
  for ours, wanted in zip(out, expected[1:], strict=True):
    assert np.abs(wanted).max() > 1
    assert error(ours[filled], wanted[filled]) <= 1e-4
  assert_gradients(got, gradients)


def assert_gradients(got, expected):
  top = max(np.abs(x).max() for x in jax.tree.leaves(expected))
  wanted = dict(jax.tree_util.tree_leaves_with_path(expected))
  for path, x in jax.tree_util.tree_leaves_with_path(got):
    y, name = wanted.pop(path), path_name(path)
    size = np.abs(y).max()
    if name.endswith('k_proj/bias'):
      # What all keys share moves no softmax: rounding is all there is.
      assert max(np.abs(x).max(), size) <= 1e-5 * top, name
    else:
      assert np.abs(x - y).max() <= 1e-3 * size, name
  assert not wanted
