"""A released reward model from its files: one call equals peft and torch."""

import json

import numpy as np
import pytest
import transformers
from originals import scattered

from rlhfv_jax import files, reward, sharding
from rlhfv_jax.commands import convert
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat, images
from rlhfv_jax.playroom import dataset
from rlhfv_jax.playroom.picture import draw, png
from rlhfv_jax.playroom.scene import World

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
pytest.importorskip('sentencepiece')

TARGETS = 'q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj'
PROMPT = 'USER: Is it so? {factual_prompt}\n\nASSISTANT: The score of it is'
FACTS = ('There is a cup.', 'There are two beds.')
QUESTION, ANSWERS = 'What is there?', ('A red cup.', 'Two blue beds, I think.')


def theirs(words):
  text = transformers.LlamaConfig(
    vocab_size=-(-(words + 1) // 64) * 64, hidden_size=32, intermediate_size=48,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
    max_position_embeddings=512, rms_norm_eps=1e-5,
    rope_parameters={'rope_type': 'default', 'rope_theta': 10000.0},
  )  # fmt: skip
  vision = transformers.CLIPVisionConfig(
    hidden_size=24, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=3, image_size=12, patch_size=4,
  )  # fmt: skip
  config = transformers.LlavaConfig(
    text_config=text, vision_config=vision, image_token_index=words,
    image_seq_length=9,
  )  # fmt: skip
  return scattered(transformers.LlavaForConditionalGeneration(config))


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """A base on the hub, and a judge of it: adapters, and a head beside them."""
  import vicunas

  home = tmp_path_factory.mktemp('released')
  vicunas.folder(home / 'hub')
  words = len(chat.load(home / 'hub'))
  base = theirs(words)
  base.save_pretrained(home / 'hub')
  style = peft.LoraConfig(
    r=4, lora_alpha=2, target_modules=rf'.*language_model.*\.({TARGETS})'
  )
  torch.manual_seed(0)
  judge = peft.get_peft_model(base, style)
  with torch.no_grad():
    for name, x in judge.named_parameters():
      if 'lora_B' in name:
        x.normal_(0, 0.1)
  judge.save_pretrained(home / 'whole')
  head = torch.nn.Linear(32, 1)
  # As LLaVA-RLHF publishes it: old names, a pickle, a head without a suffix.
  (home / 'rm').mkdir()
  settings = json.loads((home / 'whole/adapter_config.json').read_text())
  settings['target_modules'] = TARGETS.split('|')
  files.write_json(home / 'rm/adapter_config.json', settings)
  state = peft.get_peft_model_state_dict(judge)
  state = {k.replace('model.language_model.', 'model.'): v.contiguous()
           for k, v in state.items()}  # fmt: skip
  assert (
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' in state
  )
  torch.save(state, home / 'rm/adapter_model.bin')
  torch.save(head.state_dict(), home / 'rm/reward_head')
  text = dict(vocab_size=words, width=32, mlp=48, depth=2, heads=4, kv_heads=4,
              max_length=512, rms_eps=1e-5)  # fmt: skip
  vision = dict(kind='clip', image_size=12, patch=4, width=24, mlp=32, depth=2,
                heads=3)  # fmt: skip
  files.write_json(home / 'model.json', {
    'model': dict(text=text, vision=vision, connector='mlp2x',
                  image_token=words),
    'template': 'vicuna_v1', 'image': {'size': 12, 'policy': 'pad'},
  })  # fmt: skip
  (home / 'prompt.txt').write_text(PROMPT)
  return home, judge, head


def imported(home):
  convert.main([
    'import', f'--from={home / "hub"}', f'--from={home / "rm"}',
    f'--model={home / "model.json"}', f'--to={home / "weights"}',
    '--mesh=-1,1,1',
  ])  # fmt: skip
  return home / 'weights'


def scored(judge, head, home, picture, answer, order):
  """What torch says of the text, written out by hand."""
  words = chat.load(home / 'hub')
  system = (
    'A chat between a curious user and an artificial intelligence assistant. '
    'The assistant gives helpful, detailed, and polite answers to the '
    "user's questions. USER: "
  )
  told = "Specifically, the AI's response should be fully supported by the "
  told += 'combination of the following captions:\n'
  told += ''.join(f'  - {fact}\n' for fact in order)
  after = f'\n{QUESTION} ASSISTANT: {answer}</s> '
  after += PROMPT.replace('{factual_prompt}', told)
  each = [words(t, add_special_tokens=False)['input_ids']
          for t in (system, after)]  # fmt: skip
  image = judge.config.image_token_index
  ids = [words.bos_token_id, *each[0], *[image] * 9, *each[1]]
  mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
  ))  # fmt: skip
  pixels = torch.tensor(images.load(picture, 12, policy='pad')).permute(2, 0, 1)
  with torch.no_grad():
    out = judge(
      input_ids=torch.tensor([ids]),
      pixel_values=((pixels / 255 - mean) / std)[None],
      output_hidden_states=True,
    )
    return head(out.hidden_states[-1][0, -1]).item()


def test_one_call_equals_peft_and_torch(released):
  home, judge, head = released
  folder = imported(home)
  (scene,) = dataset.scenes(World(), 'test', 1)
  picture = png(draw(scene))
  asks = {'file': str(home / 'prompt.txt'), 'facts': True}
  scorer = reward.load(folder, sharding.make_mesh(), asks=asks, batch=8)
  for answer in ANSWERS:
    ours = reward.score(scorer, picture, QUESTION, answer, FACTS[:1])
    wanted = scored(judge, head, home, picture, answer, FACTS[:1])
    assert ours == pytest.approx(wanted, rel=1e-4, abs=1e-4)
  both = reward.score(scorer, picture, QUESTION, ANSWERS[0], FACTS)
  orders = [scored(judge, head, home, picture, ANSWERS[0], order)
            for order in (FACTS, FACTS[::-1])]  # fmt: skip
  assert min(abs(both - wanted) for wanted in orders) < 1e-4
  assert abs(orders[0] - orders[1]) > 1e-3


def test_the_head_of_another_size_says_so(released):
  home, _, _ = released
  torch.save(torch.nn.Linear(16, 1).state_dict(), home / 'other')
  (home / 'rm/reward_head').rename(home / 'kept')
  (home / 'other').rename(home / 'rm/reward_head')
  try:
    with pytest.raises(ValueError, match='decoder of another size'):
      convert.main([
        'import', f'--from={home / "hub"}', f'--from={home / "rm"}',
        f'--model={home / "model.json"}', f'--to={home / "fails"}',
      ])  # fmt: skip
  finally:
    (home / 'kept').rename(home / 'rm/reward_head')


def test_the_head_is_what_torch_saved(released):
  home, _, head = released
  params = workdir.read(imported(home), sharding.make_mesh((-1, 1, 1)))
  np.testing.assert_array_equal(
    params['score_head']['weight'], head.weight.detach()[0]
  )
