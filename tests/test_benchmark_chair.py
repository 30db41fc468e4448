"""CHAIR against what the original code returns, and COCO's truth."""

import json
from pathlib import Path

import pytest

from rlhfv_jax.benchmarks import chair, coco, lexicon
from rlhfv_jax.benchmarks.coco import Picture

CHAIR = json.loads(
  (Path(__file__).parent / 'golden/chair_original.json').read_text()
)['rows']


def synonyms(path, pairs, classes):
  """A list in the official form, of the words that the goldens speak of."""
  rows = {name: [name] for name in sorted(classes)}
  for word, name in sorted(pairs):
    if word not in rows.setdefault(name, [name]):
      rows[name].append(word)
  path.write_text(''.join(', '.join(row) + '\n' for row in rows.values()))
  return path


@pytest.fixture(scope='module')
def chair_path(tmp_path_factory):
  pairs = {
    pair
    for row in CHAIR
    for pair in zip(
      row['expected']['words'], row['expected']['node_words'], strict=True
    )
  } | {(' motor bike', 'motorcycle'), ('seat', 'chair')}
  names = {name for row in CHAIR for name in row['expected']['gt_objects']}
  path = tmp_path_factory.mktemp('chair') / 'synonyms.txt'
  return synonyms(path, pairs, names)


@pytest.mark.parametrize('row', CHAIR, ids=lambda row: row['caption'][:40])
def test_chair_finds_what_the_original_finds(row, chair_path):
  want = row['expected']
  pairs = list(zip(want['words'], want['node_words'], strict=True))
  assert chair.mentions(row['caption'], chair_path) == pairs
  words = chair.official(chair_path)
  picture = Picture(tuple(row['instances']), tuple(row['gt_captions']))
  # Words that only reference captions use are not in the reconstructed list.
  assert coco.truth(picture, words) <= set(want['gt_objects'])
  assert coco.truth(picture, words) >= set(row['instances'])


def test_chair_rates_are_the_original_s(chair_path, tmp_path):
  rows = [row for row in CHAIR if not row['gt_captions']]
  truth = write_truth(tmp_path / 'truth.jsonl', rows)
  answers = answered(rows, 'caption')
  got = chair.score(answers, truth, lexicon=chair_path)
  want = [row['expected'] for row in rows]
  wrong = sum(len(w['hallucinated']) for w in want)
  said = sum(len(w['words']) for w in want)
  assert got['official']['CHAIRi'] == pytest.approx(wrong / said, abs=1e-9)
  share = sum(w['CHAIRs'] for w in want) / len(want)
  assert got['official']['CHAIRs'] == pytest.approx(share, abs=1e-9)
  for answer, expected, row in zip(got['answers'], want, rows, strict=True):
    spots = [row['caption'][a:b].lower() for a, b, _ in answer['wrong']]
    assert len(spots) == len(expected['hallucinated'])
    tops, bottoms = answer['counts'].get('mention', (0, 1))
    assert tops / bottoms == pytest.approx(expected['CHAIRi'], abs=1e-9)


def test_a_second_blank_hides_a_synonym_only_where_the_original_says(tmp_path):
  path = tmp_path / 'synonyms.txt'
  path.write_text('motorcycle, scooter,  motor bike\ncat, kitten\n')
  text = 'A motor bike and a kitten.'
  assert chair.mentions(text, chair.official(path)) == [('kitten', 'cat')]
  meant = chair.official(path, strict=False)
  assert chair.mentions(text, meant) == [
    ('motor bike', 'motorcycle'), ('kitten', 'cat'),
  ]  # fmt: skip


def write_truth(path, rows):
  with path.open('w') as file:
    for row in rows:
      record = {'image_id': row['image_id'], 'objects': row['instances'],
                'captions': row['gt_captions']}  # fmt: skip
      file.write(json.dumps(record) + '\n')
  return path


def answered(rows, key):
  return [{'id': str(row['image_id']), 'answer': row[key]} for row in rows]


def test_coco_s_folder_is_read_and_extracted(tmp_path):
  folder = tmp_path / 'annotations'
  folder.mkdir()
  for split, number in (('val', 1), ('train', 2)):
    images = [{'id': number, 'file_name': f'{number}.jpg'}]
    (folder / f'captions_{split}2014.json').write_text(json.dumps({
      'images': images,
      'annotations': [{'image_id': number, 'caption': 'Some kittens.'}],
    }))  # fmt: skip
    (folder / f'instances_{split}2014.json').write_text(json.dumps({
      'images': images, 'categories': [{'id': 5, 'name': 'dog'}],
      'annotations': [{'image_id': number, 'category_id': 5}] * 2,
    }))  # fmt: skip
  small = tmp_path / 'small.jsonl'
  coco.extract(folder, small, ['2'])
  assert coco.pictures(small) == {
    '2': Picture(('dog', 'dog'), ('Some kittens.',), '2.jpg')
  }
  assert list(coco.pictures(folder)) == ['1', '2']
  words = lexicon.own()
  assert coco.truth(coco.pictures(folder, ['1'])['1'], words) == {'dog', 'cat'}
  asks = chair.questions(small)
  assert asks == [{'id': '2', 'question': chair.PROMPT}]
  with pytest.raises(ValueError, match='1 of 1 pictures are missing: 2.jpg'):
    chair.questions(small, images=tmp_path)
