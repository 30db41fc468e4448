"""A decoder that sees: image tower, connector, and the splice into the text."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlhfv_jax import sharding
from rlhfv_jax.models import fetch, layers
from rlhfv_jax.models.beit3 import Beit3
from rlhfv_jax.models.clip import Clip
from rlhfv_jax.models.config import VLMConfig
from rlhfv_jax.models.llama import Llama

# What each tower was trained on: mean and deviation of red, green, blue.
_STATISTICS = {
  'beit3': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  'clip': (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
  ),
}


class Connector(nn.Module):
  """Two linear maps with a GELU between, as in LLaVA-1.5."""

  width: int
  dtype: str

  @nn.compact
  def __call__(self, x):
    x = layers.dense(self.width, name='linear_1', dtype=self.dtype)(x)
    x = nn.gelu(x, approximate=False)
    return layers.dense(self.width, name='linear_2', dtype=self.dtype)(x)


class VLM(nn.Module):
  config: VLMConfig

  def setup(self):
    c = self.config
    self.language_model = Llama(c.text, c.dtype, c.remat)
    if c.vision is None:
      return
    if c.vision.kind == 'beit3':
      self.vision_tower = Beit3(c.vision, c.dtype, c.remat)
      shape = (c.vision.queries, c.vision.width)
      self.query = self.param('query', layers.LOOKED_UP, shape)
    else:
      self.vision_tower = Clip(c.vision, c.dtype, c.remat)
    if c.connector == 'mlp2x':
      self.mm_projector = Connector(c.text.width, c.dtype)
    else:
      self.mm_projector = layers.dense(c.text.width, dtype=c.dtype)

  def encode(self, images: jax.Array) -> jax.Array:
    """u8[B,H,W,3] -> features [B,P,D] at the decoder's width."""
    return self.connect(self.look(images))

  def connect(self, seen: jax.Array) -> jax.Array:
    """What the tower saw -> features at the decoder's width."""
    return self.mm_projector(sharding.by_rows(seen))

  def look(self, images: jax.Array) -> jax.Array:
    """u8[B,H,W,3] -> what the tower saw [B,P,D], at its own width."""
    c = self.config
    pixels = _normalize(sharding.by_rows(images), c.vision.kind)
    pixels = pixels.astype(c.dtype)
    queries = (self.query,) if c.vision.kind == 'beit3' else ()
    return self.vision_tower(pixels, *queries)

  def __call__(
    self,
    tokens: jax.Array,
    position: jax.Array,
    mask: jax.Array,
    features: jax.Array | None = None,
  ) -> jax.Array:
    """tokens, position i32[B,L], mask bool[B,1,L,L] -> hidden states [B,L,D].

    `embed`, then the layers, then their norm.
    """
    x = self.embed(tokens, features)
    return self.language_model(x, position, mask)

  def logits(self, hidden: jax.Array) -> jax.Array:
    return self.language_model.logits(hidden)

  def predict(self, x: jax.Array) -> jax.Array:
    return self.language_model.predict(x)

  def whole(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
    """Every parameter once: what `init` traces."""
    features = self.encode(images) if self.config.vision is not None else None
    mask = jnp.ones((1, 1, 1, 1), bool)
    hidden = self(tokens, jnp.zeros_like(tokens), mask, features)
    return self.logits(hidden)

  def embed(
    self, tokens: jax.Array, features: jax.Array | None = None
  ) -> jax.Array:
    """Words by their row; placeholder k, the first P of them, by feature k."""
    if self.config.image_token is None:
      return self.language_model.embed(tokens)
    image = tokens == self.config.image_token
    # A placeholder's id may lie outside the vocabulary.
    inside = 0 <= self.config.image_token < self.config.text.vocab_size
    word = self.config.image_token if inside else 0
    x = self.language_model.embed(jnp.where(image, word, tokens))
    x = sharding.by_rows(x)
    if features is None:
      return x
    k = jnp.cumsum(image, axis=1) - 1
    feature = jnp.arange(features.shape[1])
    # The way back: feature p went to the first token that has p before it.
    slot = (k[:, None] < feature[None, :, None]).sum(-1)
    seen = fetch.rows(features.astype(x.dtype), k, slot)
    return jnp.where((image & (k <= feature[-1]))[..., None], seen, x)


def _normalize(images, kind):
  mean, std = (jnp.float32(x)[None, None, None] for x in _STATISTICS[kind])
  return (images.astype(jnp.float32) / 255 - mean) / std
