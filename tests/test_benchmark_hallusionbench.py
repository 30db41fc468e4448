"""HallusionBench: groups of questions, by a judge and by yes or no."""

import json

import pytest

from rlhfv_jax.benchmarks import hallusionbench


def hallusion(tmp_path):
  rows = []
  for category, figure, seen, question, truth in (
    ('VD', 0, 1, 0, 1), ('VD', 1, 2, 0, 0), ('VD', 0, 1, 1, 0),
    ('VS', 0, 0, 0, 1), ('VS', 1, 2, 0, 0),
  ):  # fmt: skip
    name = f'./hallusion_bench/{category}/{figure}.png' if seen else None
    rows.append({
      'category': category, 'subcategory': 'chart', 'set_id': '0',
      'figure_id': str(figure), 'question_id': str(question),
      'visual_input': str(seen), 'question': 'Is it?', 'filename': name,
      'gt_answer': str(truth), 'gt_answer_details': 'It is what it is.',
    })  # fmt: skip
  path = tmp_path / 'HallusionBench.json'
  path.write_text(json.dumps(rows))
  return path


def test_hallusionbench_by_judge_and_by_word(tmp_path):
  path = hallusion(tmp_path)
  ids = [row['id'] for row in hallusionbench.questions(path)]
  assert ids[0] == 'VD/chart/0/0/0'
  texts = ['Yes.', 'No.', 'Yes.', 'I cannot tell from a text.', 'Maybe.']
  given = [{'id': i, 'answer': t} for i, t in zip(ids, texts, strict=True)]
  asks = hallusionbench.prompts(given, path)
  assert 'It is what it is.' in asks[0]['user'] and 'Yes.' in asks[0]['user']
  replies = dict(zip(ids, (
    'Correct', 'correct.', 'This is incorrect', 'unclear', 'hard to say',
  ), strict=True))  # fmt: skip
  got = hallusionbench.score(given, path, replies=replies)
  values = {k: v['value'] for k, v in got['metrics'].items()}
  # Not to know is right without a picture, so 3 of 5.
  assert values['accuracy'] == 3 / 5
  # Questions: VD 0 (both figures) right, VD 1 wrong, VS 0 wrong.
  assert values['accuracy/question'] == 1 / 3
  # Figures: VD 0 has a wrong answer; VD 1 right; VS 1 wrong; VS 0 is none.
  assert values['accuracy/figure'] == 1 / 3
  assert values['accuracy/easy'] == 2 / 3 and values['accuracy/hard'] == 1 / 2
  assert values['unclear'] == 2 / 5
  assert values['unparsed'] == 1 / 5  # "hard to say" is no verdict
  assert got['official']['accuracy/question'] == 33.3333
  lenient = hallusionbench.score(given, path, replies=replies, strict=False)
  assert lenient['metrics']['accuracy']['n'] == 4
  word = hallusionbench.score(given, path)
  assert word['settings']['by'] == 'yes or no'
  assert [a['verdict'] for a in word['answers']] == [1, 1, 0, 0, 2]
  del replies[ids[1]]
  fewer = hallusionbench.score(given, path, replies=replies)
  assert fewer['metrics']['accuracy/question']['n'] == 2
  json.dumps(got, allow_nan=False)


@pytest.mark.parametrize(
  'reply, strict, lenient',
  [
    ('correct', 1, 1), ('Incorrect.', 0, 0), ('"unclear"', 2, 2),
    ('It is not correct.', 1, 0), ('', 2, None), ('I refuse.', 2, None),
    ('Not unclear: correct', 1, 1),
  ],
)  # fmt: skip
def test_verdicts(reply, strict, lenient):
  assert hallusionbench.verdict(reply) == strict
  assert hallusionbench.verdict(reply, strict=False) == lenient


def test_a_question_without_a_picture_needs_none(tmp_path):
  path = hallusion(tmp_path)
  for name in ('VD/0.png', 'VD/1.png', 'VS/1.png'):
    file = tmp_path / 'pictures' / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b'')
  asks = hallusionbench.questions(path, images=tmp_path / 'pictures')
  assert ['image_path' in ask for ask in asks] == [True] * 3 + [False, True]
