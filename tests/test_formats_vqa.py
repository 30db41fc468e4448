"""VQA v2 and A-OKVQA: official files as conversations."""

import io
import json
import pickle
from dataclasses import replace

import pytest
from PIL import Image

from rlhfv_jax.data import sources
from rlhfv_jax.data.example import Example, RowError
from rlhfv_jax.data.formats import vqav2

IMAGES = (42, 7, 7, 42, 7, 99)
KINDS = ('other', 'yes/no', 'yes/no', 'yes/no', 'number', 'yes/no')


def picture(path, colour=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', (8, 6), (colour, 0, 0)).save(path)


def png(colour):
  file = io.BytesIO()
  Image.new('RGB', (8, 6), (colour, 0, 0)).save(file, 'PNG')
  return file.getvalue()


@pytest.fixture
def vqa(tmp_path):
  """Six questions about three pictures; the answers stand in another order."""
  for split in ('train', 'val'):
    questions = [
      {'image_id': image, 'question': f'question {k}?', 'question_id': 100 + k}
      for k, image in enumerate(IMAGES)
    ]
    answers = [
      {
        'question_type': 'is',
        'multiple_choice_answer': f'answer {k}',
        'answers': [{'answer': f'a{k}{i}', 'answer_confidence': 'yes',
                     'answer_id': i + 1} for i in range(10)],
        'image_id': image,
        'answer_type': KINDS[k],
        'question_id': 100 + k,
      }
      for k, image in enumerate(IMAGES)
    ]  # fmt: skip
    subset = f'{split}2014'
    (tmp_path / f'v2_OpenEnded_mscoco_{subset}_questions.json').write_text(
      json.dumps({'info': {'year': 2014}, 'questions': questions})
    )
    (tmp_path / f'v2_mscoco_{subset}_annotations.json').write_text(
      json.dumps({'annotations': answers[::-1], 'info': {}})
    )
    for image in IMAGES:
      picture(tmp_path / subset / f'COCO_{subset}_{image:012d}.jpg', image)
  return tmp_path


def test_an_answer_belongs_to_its_question(vqa):
  source = pickle.loads(pickle.dumps(sources.open(f'vqav2:{vqa}')))
  assert len(source) == 6
  for k, example in enumerate(source):
    (role, text), *rest = example.turns
    assert (role, rest) == ('user', [])
    assert text == (
      f'question {k}?\nAnswer the question using a single word or phrase.'
    )
    assert example.answers == (f'answer {k}',)
    name = f'COCO_train2014_{IMAGES[k]:012d}.jpg'
    assert example.image_path == name
    assert example.image == (vqa / 'train2014' / name).read_bytes()
    assert example.extra['answers'] == [f'a{k}{i}' for i in range(10)]


def test_yes_no_questions_of_a_picture_are_one_conversation(vqa):
  source = sources.open(f'vqav2:{vqa}?task=rounds')
  asked = [example.extra['question_id'] for example in source]
  assert asked == [[101, 102], [103], [105]]
  first = source[0]
  assert [role for role, _ in first.turns] == ['user', 'assistant', 'user']
  assert first.turns[1] == ('assistant', 'answer 1')
  assert first.answers == ('answer 2',)


def test_to_be_asked_there_is_nothing_to_learn(vqa):
  source = sources.open(f'vqav2:{vqa}?split=val&task=questions')
  assert all(not e.answers and len(e.extra['answers']) == 10 for e in source)
  assert source[0].image_path.startswith('COCO_val2014_')


def test_each_question_keeps_its_prompt(vqa):
  texts = [e.turns[0][1] for e in sources.open(f'vqav2:{vqa}?prompt=rlhfv')]
  again = [e.turns[0][1] for e in sources.open(f'vqav2:{vqa}?prompt=rlhfv')]
  said = {
    prompt.replace('{question}', f'question {k}?')
    for prompt in vqav2.PROMPTS['rlhfv']
    for k in range(6)
  }
  assert texts == again and set(texts) <= said and len(set(texts)) == 6
  own = vqav2.read(vqa, prompt='Q: {question}')
  assert own[3].turns == (('user', 'Q: question 3?'),)
  with pytest.raises(ValueError, match='around {question}'):
    vqav2.read(vqa, prompt='shortly')


def test_files_of_two_splits_do_not_match(vqa):
  path = vqa / 'v2_mscoco_train2014_annotations.json'
  path.write_text(
    path.read_text().replace('"question_id": 103', '"question_id": 9')
  )
  with pytest.raises(ValueError, match='1 of 6 have no partner, 103 is the'):
    sources.open(f'vqav2:{vqa}')
  path.unlink()
  with pytest.raises(ValueError, match='one file like v2_.*annotations.json'):
    sources.open(f'vqav2:{vqa}')
  with pytest.raises(ValueError, match='no option .tasks. of vqav2'):
    sources.open(f'vqav2:{vqa}?tasks=rounds')


def official(folder, split='train'):
  found = {}
  for name, key in (
    (f'v2_OpenEnded_mscoco_{split}2014_questions.json', 'questions'),
    (f'v2_mscoco_{split}2014_annotations.json', 'annotations'),
  ):
    rows = json.loads((folder / name).read_text())[key]
    found[key] = {row['question_id']: row for row in rows}
  return found


@pytest.mark.parametrize('task', ['answers', 'questions'])
@pytest.mark.parametrize('prompt', ['llava', 'rlhfv', 'Q: {question} A:'])
def test_the_official_files_come_back(vqa, tmp_path, task, prompt):
  path = vqa / 'v2_mscoco_train2014_annotations.json'
  told = json.loads(path.read_text())
  told['annotations'][2]['answers'][3]['answer_confidence'] = 'maybe'
  told['annotations'][1]['multiple_choice_answer'] = 'none of them'
  path.write_text(json.dumps(told))
  source = sources.open(f'vqav2:{vqa}', task=task, prompt=prompt)
  vqav2.write(tmp_path / 'out', source, prompt=prompt)
  again = vqav2.read(tmp_path / 'out', task=task, prompt=prompt)
  assert list(again) == list(source)
  found, expected = official(tmp_path / 'out'), official(vqa)
  assert found['questions'] == expected['questions']
  assert found['annotations'] == expected['annotations']


def test_rounds_become_questions_again(vqa, tmp_path):
  """What ten people said is not in a round: one answer stands for them."""
  asked = [e for e in sources.open(f'vqav2:{vqa}') if 'yes/no' in str(e.extra)]
  vqav2.write(tmp_path / 'out', sources.open(f'vqav2:{vqa}?task=rounds'))
  again = vqav2.read(tmp_path / 'out')
  assert len(again) == len(asked) == 4
  for found, expected in zip(again, asked, strict=True):
    for known in ('id', 'image', 'image_path', 'turns', 'answers'):
      assert getattr(found, known) == getattr(expected, known), known
    assert found.extra['answers'] == [*expected.answers]


def test_what_else_is_asked_becomes_vqa(tmp_path):
  world = [
    replace(example, turns=example.turns[:1], answers=(example.turns[1][1],))
    for example in sources.open('playroom:train/questions/6')
  ]
  out = tmp_path / 'out'
  with pytest.raises(RowError, match=r'another prompt.*\?prompt='):
    vqav2.write(out, world)
  assert not list(out.rglob('*.json'))
  vqav2.write(out, world, prompt='{question}')
  again = vqav2.read(out, prompt='{question}')
  for found, expected in zip(again, world, strict=True):
    for known in ('id', 'image', 'turns', 'answers', 'origin', 'facts'):
      assert getattr(found, known) == getattr(expected, known), known
    assert expected.extra.items() <= found.extra.items()


def test_what_cannot_be_vqa_is_refused_and_leaves_no_files(tmp_path):
  one = Example(
    'one', png(1), (('user', 'is it red?'),), ('yes',),
    extra={'question_id': 4},
  )  # fmt: skip
  for rows, says in (
    ([one, one], r'row 1 \(one\): question 4'),
    ([one, replace(one, answers=('a', 'b'), extra={})], 'not one answer'),
    ([one, replace(one, answers=(), extra={})], '1 of 2 questions have an'),
    ([replace(one, turns=3 * one.turns)], 'several turns'),
    ([], '0 of 0'),
  ):
    with pytest.raises(ValueError, match=says):
      vqav2.write(tmp_path / 'out', rows, prompt='{question}')
    assert not list(tmp_path.rglob('*.json'))


def test_a_picture_that_is_not_there_names_its_row(vqa):
  (vqa / 'train2014' / f'COCO_train2014_{99:012d}.jpg').unlink()
  source = sources.open(f'vqav2:{vqa}')
  with pytest.raises(RowError, match=r'no such picture.*questions.json, row 5'):
    source[5]
  assert source[4].answers == ('answer 4',)


# ---- A-OKVQA


@pytest.fixture
def aokvqa(tmp_path):
  rows = [
    {
      'split': 'train',
      'image_id': image,
      'question_id': f'q{k}',
      'question': f'Why {k}?',
      'choices': ['so', 'thus', 'hence', 'perhaps'],
      'correct_choice_idx': k % 4,
      'direct_answers': ['so'] * 10,
      'rationales': [f'Reason {k}{i}.' for i in range(3)],
    }
    for k, image in enumerate((5, 5, 8))
  ]
  (tmp_path / 'aokvqa_v1p0_train.json').write_text(json.dumps(rows))
  for row in rows[:2]:
    row.pop('correct_choice_idx'), row.pop('rationales')
  (tmp_path / 'aokvqa_v1p0_test.json').write_text(json.dumps(rows[:2]))
  for image in (5, 8):
    picture(tmp_path / 'train2017' / f'{image:012d}.jpg', image)
  return tmp_path


def test_the_reason_then_the_option(aokvqa):
  source = sources.open(f'aokvqa:{aokvqa}')
  for k, example in enumerate(source):
    ((_, text),) = example.turns
    assert text.startswith(f'Why {k}?\nA. so\nB. thus\nC. hence\nD. perhaps\n')
    (answer,) = example.answers
    reason, verdict = answer.split('. ', 1)
    assert reason + '.' in example.facts and len(example.facts) == 3
    # What LLaVA-RLHF's symbolic reward looks for.
    assert f'correct option is {"ABCD"[k]}.' in verdict
    assert example.extra['caption_type'] == 2 + k
  own = sources.open(f'aokvqa:{aokvqa}', instruction='', reply='{letter}')
  assert own[1].answers == ('B',) and own[1].turns[0][1].endswith('D. perhaps')


def test_questions_of_a_picture_in_rounds(aokvqa):
  first, second = sources.open(f'aokvqa:{aokvqa}?task=rounds')
  assert len(first.turns) == 3 and first.turns[1] == ('assistant', 'A. so')
  assert first.answers == ('B. thus',) and second.answers == ('C. hence',)


def test_the_test_split_can_only_be_asked(aokvqa):
  asked = sources.open(f'aokvqa:{aokvqa}?split=test&task=questions')
  assert [e.answers for e in asked] == [(), ()]
  with pytest.raises(RowError, match='no correct option.*test.json, row 1'):
    sources.open(f'aokvqa:{aokvqa}?split=test')[1]
