"""Practice: descriptions with mistakes that are known, and who finds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhfv_jax import models, options, sharding
from rlhfv_jax.objectives.spotting import counting_loss, spotting_loss
from rlhfv_jax.playroom import annotator, mistakes
from rlhfv_jax.playroom.claims import CATEGORIES, mentions, read
from rlhfv_jax.playroom.language import plural
from rlhfv_jax.playroom.scene import (
  COLOURS,
  KINDS,
  Group,
  Scene,
  World,
  rng_of,
  sample,
)
from rlhfv_jax.playroom.truth import judge, left_out, unsupported
from rlhfv_jax.stages import practice, pretrain, problem

SCENES = [sample(World(), 'train', index=i) for i in range(400)]
TEXTS = [
  mistakes.mistaken(scene, rng_of(scene, mistakes.STREAM)) for scene in SCENES
]
KITCHEN = Scene('kitchen', (
  Group('cup', 'red', 2, 'top left'), Group('box', 'blue', 1, 'top right'),
))  # fmt: skip


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A setup of the small config, and its rows for practice."""
  config = options.load('configs/reward.py:small')
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    s = problem.setup(config, tmp_path_factory.mktemp('practice'), mesh)
    return s, *practice.data(s)


def batches(s, data, size):
  asked = practice.asked(s, data)
  return problem.held_out(s, data, size, read=True, prepare=asked)()


def test_a_description_is_whole_sentences_and_the_same_again():
  for scene, text in zip(SCENES, TEXTS, strict=True):
    assert text and all(part.whole for part in read(text))
    again = mistakes.mistaken(scene, rng_of(scene, mistakes.STREAM))
    assert again == text


def test_every_unsupported_claim_is_marked_in_its_sentence_once():
  for scene, text in zip(SCENES, TEXTS, strict=True):
    marks = mistakes.wrong(scene, text)
    assert marks.shape == (len(read(text)), len(CATEGORIES))
    assert marks.sum() == len(unsupported(scene, text))


def test_marks_say_what_is_wrong_of_which_sentence():
  text = (
    'at the top left there are two red cups. at the top right there are three '
    'blue boxes. at the middle left there is a red cup. there is a green kite.'
  )
  told = [
    [CATEGORIES[k] for k in np.flatnonzero(row)]
    for row in mistakes.wrong(KITCHEN, text)
  ]
  assert told == [[], ['number'], ['object'], ['object']]


def test_shorter_lacks_one_sentence_any_of_them():
  rng = np.random.default_rng(0)
  for text in TEXTS[:50]:
    whole = [text[part.start : part.end] for part in read(text)]
    left = [mistakes.shorter(text, rng) for _ in range(20)]
    possible = {' '.join(whole[:k] + whole[k + 1 :]) for k in range(len(whole))}
    assert set(left) <= possible
    assert len(whole) < 3 or len(set(left)) > 1


def test_silence_has_no_sentence():
  assert mistakes.wrong(KITCHEN, '').shape == (0, len(CATEGORIES))


def test_each_way_to_err_is_there_and_most_claims_are_right():
  """Also what a model gets wrong that made-up answers may lack: a thing told
  of twice, and one taken for another in its place."""
  pairs = list(zip(SCENES, TEXTS, strict=True))
  wrong = np.concatenate([mistakes.wrong(*pair) for pair in pairs]).mean(0)
  assert ((wrong > 0.05) & (wrong < 0.4)).all(), wrong
  twice = [len({m.kind for m in mentions(t)}) < len(mentions(t)) for t in TEXTS]
  taken = [
    any(m.kind not in scene.by_kind and m.position.value == group.place
        and m.attribute.value == group.colour and m.number.value == group.number
        for m in mentions(text) for group in scene.groups)
    for scene, text in pairs
  ]  # fmt: skip
  silent = [bool(left_out(*pair)) for pair in pairs]
  for kind in (twice, taken, silent):
    assert np.mean(kind) > 0.05


def test_the_loss_is_that_of_a_double_loop():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
  labels = rng.integers(-1, 2, logits.shape).astype(np.int8)
  total, count, hits = 0.0, 0, {0: [], 1: []}
  for z, told in zip(logits.ravel().astype(float), labels.ravel(), strict=True):
    if told >= 0:
      chance = 1 / (1 + np.exp(-z))
      total -= np.log(chance if told else 1 - chance)
      count += 1
      hits[told].append((z > 0) == told)
  found = spotting_loss(jnp.array(logits), jnp.array(labels))
  assert float(found['loss'].count) == count
  assert float(found['loss'].value()) == pytest.approx(total / count, abs=1e-6)
  for name, told in (('wrong', 1), ('right', 0)):
    rate = float(found[f'accuracy/{name}'].value())
    assert rate == pytest.approx(np.mean(hits[told]), abs=1e-6)


def test_counts_are_told_to_a_claim_and_filler_counts_nothing():
  rng = np.random.default_rng(0)
  told = rng.normal(scale=3, size=(4, 2, 2)).astype(np.float32)
  counts = rng.integers(0, 9, told.shape).astype(np.float32)
  valid = np.array([True, False, True, True])
  off = np.abs(told - counts)[valid].astype(float)
  loss = [d * d / 2 if d < 1 else d - 0.5 for d in off.ravel()]
  told[1] = np.nan
  found = counting_loss(*map(jnp.array, (told, counts, valid)))
  assert float(found['loss'].value()) == pytest.approx(np.mean(loss), rel=1e-6)
  for k, name in enumerate(('wrong', 'right')):
    mean = float(found[f'off/{name}'].value())
    assert mean == pytest.approx(off[..., k].mean(), rel=1e-6)
  grad = jax.grad(
    lambda x: (
      counting_loss(x, jnp.array(counts), jnp.array(valid))['loss'].total
    )
  )(jnp.array(told))
  assert not np.any(grad[1]) and np.all(grad[0])


def test_what_is_not_asked_teaches_nothing():
  logits = jnp.array([[[1.0], [jnp.nan]]])
  labels = jnp.array([[[1], [-1]]], jnp.int8)
  grad = jax.grad(lambda z: spotting_loss(z, labels)['loss'].total)(logits)
  assert float(grad[0, 0, 0]) < 0
  assert float(grad[0, 1, 0]) == 0


def test_pairs_have_the_better_description_first():
  for scene in SCENES[:50]:
    better, worse = practice.pair(scene, rng_of(scene, mistakes.STREAM))
    assert annotator.rank(scene, better, worse) == 0


def test_some_pairs_differ_only_in_what_they_leave_out():
  pairs = [(x, *practice.pair(x, rng_of(x, mistakes.STREAM))) for x in SCENES]
  alike = [
    len(unsupported(scene, a)) == len(unsupported(scene, b))
    for scene, a, b in pairs
  ]
  assert 0.1 < np.mean(alike) < 0.3
  told = lambda text: {text[part.start : part.end] for part in read(text)}
  less = [told(a) < told(b) or told(b) < told(a) for _, a, b in pairs]
  assert np.mean(less) == pytest.approx(practice.LESS, abs=0.1)


def test_pictures_are_those_that_the_base_has_true_answers_about(small):
  s, train, dev = small
  c = s.config.base
  base = [row.id.rpartition('-')[0] for row in pretrain.examples(
    s, 'train', {k: c[k] for k in ('captions', 'questions', 'looks')}
  )]  # fmt: skip
  seen = {train.source[i].id.rsplit('-', 2)[0] for i in range(len(train.rows))}
  assert seen == set(base[c.captions :])
  assert not seen & {dev.source[i].id.rsplit('-', 2)[0] for i in range(32)}


def test_a_sentence_is_marked_at_the_thing_it_tells_of(small):
  s, train, _ = small
  things = {*KINDS, *map(plural, KINDS)}
  (batch, *_) = batches(s, train, 16)
  known = np.array(s.tokenizer.convert_ids_to_tokens(range(len(s.tokenizer))))
  words = known[np.maximum(batch['tokens'], 0)]
  labels, roles = np.asarray(batch['labels']), np.asarray(batch['roles'])
  for b, row in enumerate(np.asarray(batch['index'])):
    one = train.source[int(row)]
    scene = next(x for x in practice.scenes(s, 'train') if x.id in one.id)
    for c, text in enumerate(one.answers):
      at = np.flatnonzero((labels[b, :, 0] >= 0) & (roles[b, c] > 0))
      assert set(words[b, at]) <= things
      assert words[b, at].tolist() == [
        word for word in text.replace('.', '').split() if word in things
      ]
      marks = mistakes.wrong(scene, text)
      np.testing.assert_array_equal(labels[b, at], marks)
      so = [true for _, true in judge(scene, text)]
      counts = so.count(False), so.count(True)
      np.testing.assert_array_equal(np.asarray(batch['counts'])[b, c], counts)
      # A colour once more, at its own word.
      colours = np.flatnonzero(
        (labels[b, :, practice.COLOUR] >= 0) & (roles[b, c] > 0)
      )
      colours = [slot for slot in colours if slot not in at]
      assert words[b, colours].tolist() == [
        word for word in text.replace('.', '').split() if word in COLOURS
      ]


def test_rows_of_filler_ask_nothing(small):
  s, _, dev = small
  found = [
    np.asarray(batch['labels'])[np.asarray(batch['index']) < 0]
    for batch in batches(s, dev, 24)
  ]
  assert sum(map(len, found)) > 0
  assert all((labels == -1).all() for labels in found)


def test_the_loss_adds_its_parts_and_reaches_the_head_and_both_probes(small):
  s, train, _ = small
  (batch, *_) = batches(s, train, 16)
  params = problem.fresh(s) | models.score_head(s.model)
  params |= practice.probes(s.model)
  hyper = {'marks': 3.0, 'counts': 2.0, 'centring': 0.5}
  run = lambda params: practice.loss(s.model)(params, batch, hyper)
  told = {name: float(x.value()) for name, x in jax.jit(run)(params).items()}
  assert told['loss'] == pytest.approx(
    (1 + 3 * 1) * np.log(2) + 2 * told['loss/counts'], rel=1e-6
  )
  off = np.asarray(batch['counts'])[np.asarray(batch['index']) >= 0]
  assert told['off/wrong'] == pytest.approx(off[..., 0].mean(), rel=1e-6)
  params['score_head']['weight'] += 0.1
  told = {name: float(x.value()) for name, x in jax.jit(run)(params).items()}
  assert told['loss'] == pytest.approx(
    told['loss/ranking']
    + 0.5 * told['loss/centring']
    + 3 * told['loss/marks']
    + 2 * told['loss/counts'],
    rel=1e-6,
  )
  grads = jax.jit(jax.grad(lambda p: run(p)['loss'].total))(params)
  for name in ('score_head', 'probe', 'counter'):
    assert all(jnp.abs(x).max() > 0 for x in jax.tree.leaves(grads[name]))


def test_adapters_and_brought_models_do_without(small):
  s, *_ = small
  assert practice.wanted(s)
  for changes in (
    {'lora': {'rank': 8}}, {'init': 'weights'}, {'practice': {'each': 0}}
  ):  # fmt: skip
    config = problem.overridden(s.config, changes)
    assert not practice.wanted(s._replace(config=config))
