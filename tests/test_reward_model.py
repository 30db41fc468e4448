"""A reward model at work: whose answers it scores, in whatever batches."""

import functools

import jax
import numpy as np
import pytest
from test_generate import scattered

from rlhfv_jax import feedback, models, rankings, reward, sharding
from rlhfv_jax.batch import Batch
from rlhfv_jax.convert import workdir
from rlhfv_jax.data import chat, images, judgement
from rlhfv_jax.data.encode import encode_all
from rlhfv_jax.data.rows import assemble
from rlhfv_jax.playroom import annotator, dataset, language
from rlhfv_jax.playroom.captions import noisy_caption
from rlhfv_jax.playroom.decided import decided
from rlhfv_jax.playroom.scene import Group, Scene, World, rng_of, sample
from rlhfv_jax.playroom.truth import unsupported

WORDS = chat.word_tokenizer(language.vocabulary())
TEMPLATE = chat.template('playroom')
MODEL = dict(
  text=dict(vocab_size=128, width=32, mlp=48, depth=1, heads=4, kv_heads=2,
            max_length=192),
  vision=dict(kind='clip', image_size=16, patch=8, width=24, mlp=32, depth=1,
              heads=4),
  image_token=chat.image_token_id(WORDS, TEMPLATE),
)  # fmt: skip
PROMPT = {
  'question': '{facts}is what you say in the picture?',
  'known': 'the picture shows: ', 'each': '{fact} ', 'reply': '', 'file': '',
}  # fmt: skip
ASKED = 'what is in the picture?'


@functools.cache
def made():
  model = models.build(MODEL)
  rng = np.random.default_rng(1)
  head = {'weight': rng.normal(0, 0.3, 32).astype(np.float32),
          'bias': np.array(0.25, np.float32)}  # fmt: skip
  return model, scattered(model, 0.3) | {'score_head': head}


@functools.cache
def asks(facts=True):
  return judgement.of(PROMPT, TEMPLATE, facts=facts, seed=0)


@functools.cache
def scorer(batch=8, facts=True):
  return reward.scorer(
    *made(), tokenizer=WORDS, template=TEMPLATE, judgement=asks(facts),
    image_size=16, image_policy='squash', batch=batch,
    mesh=sharding.make_mesh(),
  )  # fmt: skip


@functools.cache
def pairs(n=5):
  """Ranked pairs about pictures, as (example, ...)."""
  found = []
  for scene in dataset.scenes(World(), 'train', 4 * n, seed=2):
    request, said = dataset.captioned(scene, World())
    mended = annotator.correct(scene, said)
    if mended is not None:
      asked = feedback.question(scene, request)
      found.append(rankings.ranking(asked, scene, said, mended.text))
  return found[:n]


def columns(examples, c):
  return (
    [one.image for one in examples], [one.turns[-1][1] for one in examples],
    [one.answers[c] for one in examples], [one.facts for one in examples],
  )  # fmt: skip


def test_an_answer_scores_what_it_scores_in_its_pair():
  examples = pairs()
  model, params = made()
  rows = encode_all(
    examples, WORDS, TEMPLATE, image_tokens=4, image_token=MODEL['image_token'],
    suffix=asks(),
  )  # fmt: skip
  shape = (48, 128, 2)
  arrays = assemble(rows, np.arange(len(examples)), shape, read=True)
  seen = images.Pictures(examples, 16)
  arrays['images'] = np.stack([seen[i] for i in range(len(examples))])
  together = jax.jit(functools.partial(models.scores, model))(
    params, Batch(arrays, shape)
  )
  for c in (0, 1):
    alone = scorer()(*columns(examples, c))
    np.testing.assert_allclose(alone, together[:, c], rtol=1e-5, atol=1e-5)
  assert np.abs(np.subtract(*np.asarray(together).T)).min() > 1e-4


def test_a_score_is_of_its_answer_whoever_is_beside_it():
  asked = columns(pairs(), 0)
  whole = scorer()(*asked)
  assert whole.shape == (5,) and whole.dtype == np.float32
  for i, told in enumerate(whole):
    alone = reward.score(scorer(), *(column[i] for column in asked))
    assert alone == pytest.approx(float(told), abs=1e-5)


def test_facts_and_pictures_matter():
  image, question, answer, facts = (x[0] for x in columns(pairs(), 0))
  other = columns(pairs(), 0)[0][1]
  told = [facts[:1], ('there is a kite.',), facts[:1]]
  found = scorer()([image, image, other], [question] * 3, [answer] * 3, told)
  assert len(set(found.tolist())) == 3
  bare = scorer(facts=False)
  same = bare([image] * 2, [question] * 2, [answer] * 2, [facts, ()])
  assert same[0] == pytest.approx(same[1], abs=1e-6)


def test_what_cannot_be_judged_is_counted_and_named(capsys):
  image, question, answer, facts = (x[0] for x in columns(pairs(), 0))
  long = ' '.join([answer] * 30)
  found = scorer()(
    [image] * 5, [question] * 5, [answer, '', answer, long, 'a zebra.'],
    [facts, facts, (), facts, facts],
  )  # fmt: skip
  assert np.isnan(found).tolist() == [False, False, True, True, True]
  said = capsys.readouterr().err
  assert '3 of 5 answers have no score' in said
  assert '1 no facts' in said and '1 too long' in said
  assert '1 unknown word' in said and 'row 2' in said


def test_a_model_in_a_folder_scores_by_one_call(tmp_path):
  model, params = made()
  about = workdir.About(MODEL, 'playroom', 'squash', tokenizer='tokenizer')
  workdir.write(tmp_path / 'judge', params, about, sources=())
  chat.save(WORDS, tmp_path / 'judge/tokenizer')
  with pytest.raises(ValueError, match='by what words'):
    reward.load(tmp_path / 'judge', sharding.make_mesh())
  loaded = reward.load(
    tmp_path / 'judge', sharding.make_mesh(), asks=PROMPT | {'facts': True},
    batch=8,
  )  # fmt: skip
  asked = columns(pairs(), 1)
  # Its parameters lie over all devices, so sums have another order.
  np.testing.assert_allclose(loaded(*asked), scorer()(*asked), rtol=1e-5)


def scene():
  groups = (Group('cup', 'red', 2, 'top left'),
            Group('box', 'blue', 1, 'middle centre'))  # fmt: skip
  return Scene('kitchen', groups)


RIGHT = 'at the top left there are two red cups.'
WRONG = 'at the top left there are three red cups.'


@pytest.mark.parametrize('facts, a, b, told', [
  (('there are two cups.',), RIGHT, WRONG, True),
  (('there is a box.',), RIGHT, WRONG, False),
  (('there is a red cup.',), RIGHT, RIGHT.replace('red', 'blue'), True),
  (('there are two cups.',), RIGHT, RIGHT.replace('red', 'blue'), False),
  # Where a box is, no kite can be.
  (('at the top left there is a box.',), 'at the top left there is a kite.',
   'there is a bed.', True),
  (('there are two cups.',), RIGHT, f'{RIGHT} there is a bed.', False),
  (('there are two cups.',), RIGHT, RIGHT, False),
])  # fmt: skip
def test_facts_decide_what_they_speak_of(facts, a, b, told):
  assert decided(facts, a, b) is told
  assert decided(facts, b, a) is told


def test_the_better_answer_stands_first_with_facts_of_its_scene():
  asked = feedback.question(scene(), ASKED)
  for order in ((RIGHT, WRONG), (WRONG, RIGHT)):
    one = rankings.ranking(asked, scene(), *order)
    assert one.answers == (RIGHT, WRONG)
    assert one.facts and not unsupported(scene(), ' '.join(one.facts))
  assert rankings.ranking(asked, scene(), RIGHT, RIGHT) is None
  assert rankings.ranking(asked, scene(), RIGHT, '') is None


def test_rankings_are_of_two_answers_to_each_picture(tmp_path):
  world, rounds = World(), []

  def answer(questions, *, path, name):
    rounds.append(path.name)
    told = []
    for one in questions:
      split, seed, number = one.id.removesuffix('-again').split('-')
      seen = sample(world, split, index=int(number), seed=int(seed))
      rng = rng_of(seen, 7 + one.id.endswith('-again'))
      told.append({'answer': noisy_caption(seen, rng, world)})
    return told

  found = rankings.collect(
    world, 'train', 20, seed=0, round_size=16, answer=answer, folder=tmp_path,
    path=tmp_path / 'train.parquet',
  )  # fmt: skip
  assert len(found) == 20 and len({one.id for one in found}) == 20
  for one in found:
    split, seed, number = one.id.split('-')
    seen = sample(world, split, index=int(number), seed=int(seed))
    assert annotator.rank(seen, *one.answers) == 0
    assert one.facts
  again = rankings.collect(
    world, 'train', 20, seed=0, round_size=16, answer=None, folder=tmp_path,
    path=tmp_path / 'train.parquet',
  )  # fmt: skip
  assert [a.answers for a in again] == [a.answers for a in found]
  assert rounds[0] == 'answers-train-000.jsonl' and len(rounds) > 1


def test_answers_that_are_all_alike_cannot_be_ranked(tmp_path):
  with pytest.raises(ValueError, match='none has a better one'):
    rankings.collect(
      World(), 'train', 2, seed=0, round_size=4, folder=tmp_path,
      answer=lambda asked, **_: [{'answer': RIGHT}] * len(asked),
      path=tmp_path / 'train.parquet',
    )  # fmt: skip
