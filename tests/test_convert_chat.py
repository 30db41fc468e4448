"""An exported model is asked as we ask: the processor and the chat template."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from checkpoints import CLIP, LLAVA, TEXT
from PIL import Image

from rlhfv_jax import convert, models
from rlhfv_jax.convert.chat_template import jinja
from rlhfv_jax.data import chat, images, templates, tokenizer
from rlhfv_jax.models.vlm import _normalize

pytest.importorskip('torch')


@pytest.fixture(scope='module')
def llama_tokenizer(tmp_path_factory):
  pytest.importorskip('sentencepiece')
  from vicunas import folder

  return tokenizer.load(folder(tmp_path_factory.mktemp('tokenizer')))


@pytest.mark.parametrize('policy', ['pad', 'crop', 'squash'])
def test_the_processor_asks_as_we_do(tmp_path, llama_tokenizer, policy):
  words = len(llama_tokenizer)
  config = {**LLAVA, 'text': {**TEXT, 'vocab_size': words},
            'image_token': words}  # fmt: skip
  model = models.build(config)
  params = jax.tree.map(
    lambda x: jnp.zeros(x.shape),
    jax.eval_shape(functools.partial(models.init, model), jax.random.key(0)),
  )
  convert.export_weights(
    params, config, tmp_path / 'out', tokenizer=llama_tokenizer,
    chat='vicuna_v1', policy=policy,
  )  # fmt: skip
  processor = transformers.AutoProcessor.from_pretrained(tmp_path / 'out')
  rng = np.random.default_rng(0)
  picture = Image.fromarray(rng.integers(0, 256, (40, 29, 3), 'u1'))
  file = io.BytesIO()
  picture.save(file, 'PNG')
  turns = [('user', 'What can you see?'), ('assistant', 'A red cup.'),
           ('user', 'Is there a café?')]  # fmt: skip
  messages = [
    {'role': role, 'content': [{'type': 'text', 'text': text}]}
    for role, text in turns
  ]
  messages[0]['content'].insert(0, {'type': 'image', 'image': picture})
  given = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True,
    return_tensors='np',
  )  # fmt: skip
  style = templates.template('vicuna_v1')
  pieces = templates.render(
    turns, None, style, stop=llama_tokenizer.eos_token, image=True
  )
  tokens = chat.tokenize(
    pieces, llama_tokenizer.backend_tokenizer, image_tokens=9,
    image_token=words, begins=chat.beginning(llama_tokenizer),
  )  # fmt: skip
  assert given['input_ids'][0].tolist() == tokens.ids.tolist()
  seen = images.load(file.getvalue(), CLIP['image_size'], policy=policy)
  pixels = np.asarray(_normalize(seen[None], 'clip'))[0].transpose(2, 0, 1)
  np.testing.assert_allclose(given['pixel_values'][0], pixels, atol=1e-5)
  ends = transformers.GenerationConfig.from_pretrained(tmp_path / 'out')
  assert ends.eos_token_id == llama_tokenizer.eos_token_id


@pytest.mark.parametrize('name', ['vicuna_v1', 'llava_v1', 'llama3', 'plain'])
def test_a_text_model_is_asked_as_we_ask(tmp_path, llama_tokenizer, name):
  style = templates.template(name)
  llama_tokenizer.chat_template = jinja(style, llama_tokenizer, bos=True)
  turns = [('user', "It's {brackets} \"here\""), ('assistant', 'Yes\n{{x}}'),
           ('user', 'Sure?')]  # fmt: skip
  stop = tokenizer.stop_text(llama_tokenizer, style)
  for last, answer in ((True, None), (False, 'No.')):
    pieces = templates.render(turns, answer, style, stop=stop, image=False)
    said = turns if last else [*turns, ('assistant', 'No.')]
    text = llama_tokenizer.apply_chat_template(
      [{'role': role, 'content': text} for role, text in said],
      add_generation_prompt=last, tokenize=False,
    )  # fmt: skip
    assert text == '<s>' + ''.join(piece for piece, _ in pieces)
  told = llama_tokenizer.apply_chat_template(
    [{'role': 'system', 'content': 'Be brief.'},
     {'role': 'user', 'content': 'Why?'}], tokenize=False,
  )  # fmt: skip
  assert told.startswith('<s>Be brief.')
