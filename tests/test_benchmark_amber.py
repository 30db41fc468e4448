"""AMBER on answers whose scores can be counted by hand."""

import json
import re

import numpy as np
import pytest

from rlhfv_jax import files
from rlhfv_jax.__main__ import main
from rlhfv_jax.benchmarks import amber, amber_nouns, paired
from rlhfv_jax.report import results

RELATED = {
  'tree': ['forest', 'bush'], 'person': ['man', 'woman'], 'dog': [],
  'cat': ['kitten'], 'car': ['tire'], 'sky': [], 'light': [],
}  # fmt: skip
NOTES = [
  {'id': 1, 'type': 'generative', 'truth': ['person', 'tree'],
   'hallu': ['dog', 'cat']},
  {'id': 2, 'type': 'generative', 'truth': ['sky'], 'hallu': ['car']},
  {'id': 3, 'type': 'discriminative-hallucination', 'truth': 'no'},
  {'id': 4, 'type': 'discriminative-attribute-state', 'truth': 'yes'},
  {'id': 5, 'type': 'discriminative-attribute-number', 'truth': 'no'},
  {'id': 6, 'type': 'relation', 'truth': 'no'},
  {'id': 7, 'type': 'discriminative-relation', 'truth': 'yes'},
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
  return written(tmp_path, NOTES)


def written(tmp_path, notes):
  (tmp_path / 'query').mkdir()
  (tmp_path / 'annotations.json').write_text(json.dumps(notes))
  (tmp_path / 'relation.json').write_text(json.dumps(RELATED))
  (tmp_path / 'safe_words.txt').write_text('light\n')
  for task, which in (('generative', notes[:2]), ('discriminative', notes[2:]),
                      ('all', notes)):  # fmt: skip
    rows = [{'id': note['id'], 'image': f'AMBER_{note["id"]}.jpg',
             'query': 'Describe this image.'} for note in which]  # fmt: skip
    (tmp_path / f'query/query_{task}.json').write_text(json.dumps(rows))
  return tmp_path


def answers(*texts, start=1):
  return [{'id': str(i), 'answer': text} for i, text in enumerate(texts, start)]


TOLD = answers(
  # woman covers person, bushes cover the tree; dog tempts; car is wrong; the
  # light is neutral but counted.
  'a woman by some bushes with a dog and a light, no car.',
  'the sky is blue.',
)


def test_descriptions_are_held_against_what_is_there(path):
  got = amber.score(TOLD, path, task='generative')
  values = {k: v['value'] for k, v in got['metrics'].items()}
  assert values['mention'] == 2 / 6
  assert values['coverage'] == 3 / 3
  assert values['hallucination'] == 1 / 2
  assert values['cognition'] == 1 / 3
  assert got['answers'][0]['wrong_nouns'] == ['dog', 'car']
  assert got['official'] == {
    'CHAIR': round(2 / 6.001 * 100, 1), 'Cover': round(3 / 3.001 * 100, 1),
    'Hal': round(100 - 1 / 2.001 * 100, 1), 'Cog': round(1 / 3.001 * 100, 1),
  }  # fmt: skip
  assert got['published'][-1]['source']
  json.dumps(got, allow_nan=False)


def test_similar_words_cover_and_tempt_by_the_vectors_given(path):
  near = {frozenset(['tree', 'sky']): 0.9, frozenset(['cat', 'dog']): 0.81}

  def similarity(one, other):
    return 1.0 if one == other else near.get(frozenset((one, other)), 0.0)

  nouns = lambda text: text.split()
  got = amber.score(
    answers('sky kitten cat', 'tree'), path, task='generative', nouns=nouns,
    similarity=similarity,
  )  # fmt: skip
  first, second = got['answers']
  # sky is like tree, so it covers it; kitten is a word of cat.
  assert first['counts']['coverage'] == [1, 2]
  assert first['wrong_nouns'] == ['kitten', 'cat']
  # cat marks itself; the first that it is like, dog, is marked as well.
  assert first['counts']['cognition'] == [2, 2]
  assert second['counts']['coverage'] == [1, 1]
  assert got['settings']['nouns'] == '<lambda>'


def test_a_word_that_tempts_and_is_like_what_is_there_is_not_wrong():
  truths, traps = (['tree'], [0], 1), (['bush'], [0], 1)
  like = lambda one, other: float(one == other or 'tree' in (one, other))
  held = amber_nouns.hold(['bush'], truths, traps, set(), like)
  assert held == amber_nouns.Held((), 1, 1, 1, 1, 1)


def test_capitals_hide_a_noun_if_strict_only(path):
  given = answers('Dogs and Women.', 'the sky.')
  strict = amber.score(given, path, task='generative')
  assert strict['answers'][0]['counts'].get('mention') is None
  meant = amber.score(given, path, task='generative', strict=False)
  assert meant['answers'][0]['wrong_nouns'] == ['dog']


SAID = answers('No', 'Yes', 'Yes', 'No.', 'No', start=3)


def test_questions_have_no_as_the_positive_class(path):
  got = amber.score(SAID, path, task='discriminative')
  values = {k: v['value'] for k, v in got['metrics'].items()}
  # Read: no, yes, yes, -, no. True: no, yes, no, no, yes.
  assert values['accuracy'] == 2 / 5
  assert values['precision'] == 1 / 2 and values['recall'] == 1 / 3
  assert values['f1'] == pytest.approx(2 * (1 / 2) * (1 / 3) / (5 / 6))
  assert values['accuracy/attribute'] == 1 / 2
  assert values['yes'] == 2 / 5 and values['unparsed'] == 1 / 5
  assert got['official']['Accuracy'] == round(2 / 5.001 * 100, 1)
  p, r = round(1 / 2.001 * 100, 1) / 100, round(1 / 3.001 * 100, 1) / 100
  assert got['official']['F1'] == round(2 * p * r / (p + r + 0.0001) * 100, 1)
  assert got['official']['Accuracy/attribute'] == round(1 / 2.003 * 100, 1)
  lenient = amber.score(SAID, path, task='discriminative', strict=False)
  assert lenient['metrics']['accuracy']['value'] == 3 / 5
  assert lenient['metrics']['unparsed']['value'] == 0


def test_the_amber_score_is_of_both_tasks(path):
  got = amber.score(TOLD + SAID, path)
  values = {k: v['value'] for k, v in got['metrics'].items()}
  want = (1 - values['mention'] + values['f1']) / 2
  assert values['score'] == pytest.approx(want)
  score = got['metrics']['score']
  assert score['low'] <= score['value'] <= score['high']
  official = got['official']
  assert official['AMBER'] == round(
    (100 - official['CHAIR'] + official['F1']) / 2, 1
  )
  for row in got['published']:  # as the paper's table was made
    if 'score' in row['metrics']:
      m = row['metrics']
      made = (1 - m['mention'] + m['f1']) / 2
      assert m['score'] == pytest.approx(made, abs=0.0006)


def test_two_scores_are_compared_on_the_same_redrawn_questions(
  tmp_path, capsys
):
  """Against a loop over what is said: the interval, and who moved it."""
  rng, words = np.random.default_rng(4), ('person', 'tree', 'dog', 'car')
  labels = rng.choice(['yes', 'no'], 30).tolist()
  notes = [{**NOTES[0], 'id': i} for i in range(1, 11)] + [
    {**NOTES[2], 'id': i, 'truth': label} for i, label in enumerate(labels, 11)
  ]
  path = written(tmp_path, notes)

  def say(note):
    if note['type'] == 'generative':
      return ' '.join(w for w in words if rng.random() < 0.5)
    return str(rng.choice(['Yes', 'No']))

  said = [[say(note) for note in notes]]
  said.append([say(n) if rng.random() < 0.4 else old
               for n, old in zip(notes, said[0], strict=True)])  # fmt: skip
  one, other = (amber.score(answers(*s), path, repeats=1) for s in said)
  change = paired.compare(one, other, repeats=200, seed=3)['score']

  def score(texts, which):
    wrong = nouns = true = taken = there = 0
    for i in which:
      if i < 10:
        nouns += len(texts[i].split())
        wrong += len({'dog', 'car'} & set(texts[i].split()))
      else:
        taken += texts[i] == 'No'
        there += labels[i - 10] == 'no'
        true += texts[i] == 'No' and labels[i - 10] == 'no'
    chair = wrong / nouns if nouns else 0
    f1 = 2 * true / (taken + there) if taken + there else 0
    return (1 - chair + f1) / 2

  apart = lambda which: score(said[1], which) - score(said[0], which)
  n, draw = len(notes), np.random.default_rng(3)
  drawn = [apart(draw.integers(0, n, n)) for _ in range(200)]
  assert change['difference'] == pytest.approx(apart(range(n)))
  ends = np.percentile(drawn, [2.5, 97.5])
  assert [change['low'], change['high']] == pytest.approx(ends)
  alone = [[*said[0][:i], said[1][i], *said[0][i + 1 :]] for i in range(n)]
  base = score(said[0], range(n))
  moved = [round(score(texts, range(n)) - base, 12) for texts in alone]
  up, down = sum(m > 0 for m in moved), sum(m < 0 for m in moved)
  assert [change[k] for k in ('up', 'down', 'n')] == [up, down, n]
  assert change['same'] == n - up - down and up and down

  paths = [tmp_path / name / 'results.json' for name in 'AB']
  for at, result in zip(paths, (one, other), strict=True):
    files.write_json(
      at, {'version': results.VERSION, 'benchmarks': {'amber': result}}
    )
  main(['report', *map(str, paths)])
  (line,) = re.findall(r'^score .*', capsys.readouterr().out, re.MULTILINE)
  assert line.split()[-5:] == [
    line.split()[-5], str(up), str(down), str(n - up - down), str(n)
  ]  # fmt: skip
  assert f'{change["difference"]:+.3g}' in line


def test_amber_s_files_are_checked(path):
  with pytest.raises(ValueError, match="task 'some': it is one of all"):
    amber.questions(path, task='some')
  with pytest.raises(ValueError, match='7 of 7 pictures are missing: AMBER_1'):
    amber.questions(path, images=path)
  related = {k: v for k, v in RELATED.items() if k != 'tree'}
  (path / 'relation.json').write_text(json.dumps(related))
  with pytest.raises(ValueError, match="relation.json lacks 'tree'"):
    amber.score(TOLD, path, task='generative')
  (path / 'annotations.json').write_text(json.dumps(NOTES[:3]))
  with pytest.raises(ValueError, match='asks for more than the 3 annotations'):
    amber.questions(path)
